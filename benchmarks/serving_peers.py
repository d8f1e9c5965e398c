"""One user at a time in implicit and RecTools, for ``serve.py``; runs in an environment of its own.

Both are fitted on the same log, 20,000 items and users with histories of 50, and are asked in
process for ten items of one user, seen items left out: milliseconds, with no server around them.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

warnings.filterwarnings("ignore")
ITEMS, USERS, LENGTH, CALLS = int(sys.argv[1]), 2000, 50, 200


def timed(call, calls=CALLS):
    """Median and 99th percentile of calls after ten to warm up, and processor time of one."""
    times, spent = [], 0.0
    for number in range(calls + 10):
        began, cpu = time.perf_counter(), time.process_time()
        call(number % USERS)
        if number >= 10:
            times.append(1e3 * (time.perf_counter() - began))
            spent += 1e3 * (time.process_time() - cpu)
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": p50, "p99": p99, "cpu": spent / calls}


rng = np.random.default_rng(0)
items = np.concatenate([rng.choice(ITEMS, LENGTH, replace=False) for _ in range(USERS)])
users = np.repeat(np.arange(USERS), LENGTH)
matrix = csr_matrix((np.ones(len(items), np.float32), (users, items)), shape=(USERS, ITEMS))
out = {}

from implicit.als import AlternatingLeastSquares  # noqa: E402

als = AlternatingLeastSquares(factors=64, iterations=1, num_threads=1, random_state=0)
als.fit(matrix, show_progress=False)
out["implicit, ALS, a stored user"] = timed(lambda u: als.recommend(u, matrix[u], N=10))
out["implicit, ALS, a bare history"] = timed(
    lambda u: als.recommend(u, matrix[u], N=10, recalculate_user=True)
)

from rectools import Columns  # noqa: E402
from rectools.dataset import Dataset  # noqa: E402
from rectools.models import ImplicitALSWrapperModel, SASRecModel  # noqa: E402

log = pd.DataFrame({
    Columns.User: users, Columns.Item: items, Columns.Weight: 1.0,
    Columns.Datetime: pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(items)), unit="s"),
})  # fmt: skip
dataset = Dataset.construct(log)
wrapped = ImplicitALSWrapperModel(als.__class__(factors=64, iterations=1, num_threads=1))
wrapped.fit(dataset)
out["RecTools, ALS"] = timed(
    lambda u: wrapped.recommend(users=[u], dataset=dataset, k=10, filter_viewed=True)
)


def trainer():
    """One step is enough: weights do not change the time."""
    from pytorch_lightning import Trainer

    return Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


sasrec = SASRecModel(
    n_factors=256, n_blocks=1, n_heads=4, session_max_len=LENGTH, get_trainer_func=trainer,
    batch_size=8, recommend_torch_device="cpu", loss="sampled_softmax", n_negatives=16,
)  # fmt: skip
sasrec.fit(dataset)
out["RecTools, SASRec of width 256"] = timed(
    lambda u: sasrec.recommend(users=[u], dataset=dataset, k=10, filter_viewed=True), 20
)
print("PEER " + json.dumps(out))
