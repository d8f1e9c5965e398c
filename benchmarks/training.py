"""Seconds an epoch of SASRec: ours beside RecTools', same data, same size, one run.

    python benchmarks/training.py --data DIR --peer-python PATH [--width 64]

RecTools caps numpy below 2, so it lives in an environment of its own:

    python -m venv peer && peer/bin/pip install 'rectools[torch]==0.19.0'

Both train one block of the same width on sequences of at most 50 items with a softmax over the
whole catalogue; every position of every sequence is a target in both. An epoch's time is the
second epoch's, so that neither pays for starting up. The share of the machine's matrix rate is
the arithmetic of our step over the best rate of a 2,048-cube product on this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PEER = """
import json, sys, time
import pandas as pd
from pytorch_lightning import Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
path, width, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
log = pd.read_csv(path, dtype={"user_id": str, "item_id": str})
log[Columns.Weight] = 1
data = Dataset.construct(log)
marks = []
from pytorch_lightning.callbacks import Callback
class Clock(Callback):
    def on_train_epoch_start(self, *a): self.t = time.perf_counter()
    def on_train_epoch_end(self, *a): marks.append(time.perf_counter() - self.t)
def trainer(**kwargs):
    return Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False, callbacks=[Clock()])
model = SASRecModel(n_factors=width, n_blocks=1, n_heads=2, session_max_len=50, batch_size=batch,
                    loss="softmax", dropout_rate=0.2, train_min_user_interactions=2,
                    get_trainer_func=trainer, deterministic=False)
model.fit(data)
print("PEER " + json.dumps({"seconds": marks[-1], "epochs": marks}))
"""


def ours(data: str, width: int) -> dict[str, float]:
    """Seconds of our second epoch and the arithmetic in it."""
    import torch

    from onoma.dataset import split
    from onoma.dataset.load import load
    from onoma.neural.trainer import _adamw
    from onoma.recommenders.sequential.sasrec import SASRec
    from onoma.recommenders.transformer import _NextItem

    parts = split(load(data))
    model = SASRec(width=width, quiet=True, train={"epochs": 2, "batch_tokens": 1024})
    model.module = model._build(parts)
    task, module = _NextItem(model, parts), model.module
    optimiser = _adamw(module, model.train)
    module.train()
    seconds, targets = 0.0, 0
    for epoch in range(2):
        began, targets = time.perf_counter(), 0
        for step, rows in enumerate(task.plan(0, epoch)):
            module.noise.at(0, step)
            optimiser.zero_grad(set_to_none=True)
            task.loss(rows).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            targets += int((task.batches.windows.lengths[rows] - 1).sum())
        seconds = time.perf_counter() - began
    n_items = parts.dataset.n_items
    # Softmax: logits, state gradient, table gradient. Block: 12 d^2 weights, three products each.
    arithmetic = targets * (3 * 2 * width * n_items + 3 * 2 * 12 * width * width)
    return {"seconds": seconds, "targets": targets, "flop": float(arithmetic)}


def matrix_rate() -> float:
    """Best rate of a 2,048-cube product in the training dtype, FLOP/s."""
    import torch

    from onoma.neural.device import matrix_dtype

    a = torch.randn(2048, 2048, dtype=matrix_dtype())
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began))
    return best


def peer(data: str, python: str, width: int, batch: int) -> dict[str, float]:
    """Seconds of RecTools' second epoch, measured in its own process."""
    from onoma.dataset import split
    from onoma.dataset.load import load

    parts = split(load(data))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.csv"
        items = parts.train.values
        with path.open("w") as handle:
            handle.write("user_id,item_id,datetime\n")
            first = np.datetime64("2020-01-01")
            times = (first + np.arange(len(items)).astype("timedelta64[s]")).astype(str)
            rows = zip(parts.train.rows().tolist(), items.tolist(), times, strict=True)
            handle.writelines(f"u{u},i{i},{t}\n" for u, i, t in rows)
        out = subprocess.run(
            [python, "-W", "ignore", "-c", PEER, str(path), str(width), str(batch)],
            capture_output=True,
            text=True,
            check=False,
        )
    line = next((x for x in out.stdout.splitlines() if x.startswith("PEER ")), None)
    if line is None:
        sys.exit(f"the peer failed:\n{out.stderr[-2000:]}")
    result: dict[str, float] = json.loads(line[5:])
    return result


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--peer-python")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--peer-batch", type=int, default=128)
    args = parser.parse_args()
    mine, rate = ours(args.data, args.width), matrix_rate()
    print(f"onoma     {mine['seconds']:8.2f} s an epoch, {mine['targets']:,} targets")
    share = mine["flop"] / mine["seconds"] / rate
    print(f"          {share:.1%} of the machine's {rate / 1e12:.2f} TFLOP/s matrix rate")
    if args.peer_python:
        theirs = peer(args.data, args.peer_python, args.width, args.peer_batch)
        print(f"RecTools  {theirs['seconds']:8.2f} s an epoch")
        print(f"ratio     {theirs['seconds'] / mine['seconds']:8.1f} x")


if __name__ == "__main__":
    main()
