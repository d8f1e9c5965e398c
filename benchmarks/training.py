"""Seconds an epoch of SASRec: ours beside RecTools' and RecBole's, same data, same size, one run.

    python benchmarks/training.py [--data DIR] [--rectools PYTHON] [--recbole PYTHON] [--width 64]

The peers cap numpy below 2, so each lives in an environment of its own (RecBole's pinned ``ray``
is for tuning only and has no build for new Pythons):

    python -m venv rectools && rectools/bin/pip install 'rectools[torch]==0.19.0'
    python -m venv recbole && recbole/bin/pip install --no-deps recbole==1.2.1
    recbole/bin/pip install torch 'numpy<2' 'pandas<2.3' 'scipy<1.14' tqdm colorlog==4.7.2 \\
        colorama==0.4.4 scikit-learn pyyaml tensorboard thop tabulate plotly texttable psutil

All train one block of the same width on sequences of at most 50 items with a softmax over the
whole catalogue; every position of every training sequence is a target once an epoch. Ours is
timed over a whole second epoch; the peers over ``--steps`` steps after ten to warm up, times the
steps of their epoch. The share of the machine's matrix rate is the arithmetic of our step over
the best rate of a 2,048-cube product on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH = 4096  # positions a step; RecTools takes 128 x 50 with padding, RecBole 2,048 targets

RECTOOLS = """
import json, sys, time
import pandas as pd
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
folder, width, batch, steps = sys.argv[1], *map(int, sys.argv[2:5])
log = pd.read_csv(folder + "/train.csv", dtype={"user_id": str, "item_id": str})
log[Columns.Weight] = 1
marks, batches = [], []
class Clock(Callback):
    def on_train_epoch_start(self, trainer, module):
        batches.append(len(trainer.fit_loop._combined_loader.flattened[0]))
    def on_train_batch_end(self, *a): marks.append(time.perf_counter())
def trainer(**kwargs):
    return Trainer(max_epochs=1, limit_train_batches=steps + 10, accelerator="cpu", logger=False,
                   enable_checkpointing=False, enable_progress_bar=False,
                   enable_model_summary=False, callbacks=[Clock()])
model = SASRecModel(n_factors=width, n_blocks=1, n_heads=2, session_max_len=50, batch_size=batch,
                    loss="softmax", dropout_rate=0.2, train_min_user_interactions=2,
                    get_trainer_func=trainer, deterministic=False)
model.fit(Dataset.construct(log))
step = (marks[-1] - marks[9]) / (len(marks) - 10)
print("PEER " + json.dumps({"step": step, "steps": batches[0]}))
"""

RECBOLE = """
import json, sys, time, types
from importlib.machinery import ModuleSpec
for name in ("ray", "ray.tune"):  # imported for tuning, which is not run here
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = ModuleSpec(name, None)
sys.modules["ray"].tune = sys.modules["ray.tune"]
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender.sasrec import SASRec
folder, width, batch, steps = sys.argv[1], *map(int, sys.argv[2:5])
config = Config(model="SASRec", dataset="bench", config_dict=dict(
    data_path=folder, load_col={"inter": ["user_id", "item_id", "timestamp"]},
    MAX_ITEM_LIST_LENGTH=50, n_layers=1, n_heads=2, hidden_size=width, inner_size=4 * width,
    hidden_dropout_prob=0.2, attn_dropout_prob=0.2, loss_type="CE", train_neg_sample_args=None,
    train_batch_size=batch, use_gpu=False, show_progress=False, state="ERROR",
    eval_args={"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "user", "mode": "full"}))
sys.argv = sys.argv[:1]
data = create_dataset(config)
loader, _, _ = data_preparation(config, data)
model = SASRec(config, loader.dataset).train()
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
began = None
for number, batch in enumerate(loader):
    if number == 10:
        began = time.perf_counter()
    if number == steps + 10:
        break
    optimiser.zero_grad()
    model.calculate_loss(batch).backward()
    optimiser.step()
step = (time.perf_counter() - began) / steps
print("PEER " + json.dumps({"step": step, "steps": len(loader)}))
"""


def ours(data: str, width: int) -> dict[str, float]:
    """Seconds of our second epoch and the arithmetic in it."""
    import torch

    from onoma.dataset import split
    from onoma.dataset.load import load
    from onoma.neural.trainer import _adamw
    from onoma.recommenders.sequential.sasrec import SASRec
    from onoma.recommenders.transformer import NextItem

    parts = split(load(data))
    model = SASRec(width=width, quiet=True, train={"epochs": 2, "batch_tokens": BATCH})
    model.module = model._build(parts)
    task, module = NextItem(model, parts), model.module
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


def peer(script: str, data: str, python: str, width: int, batch: int, steps: int) -> float:
    """Seconds an epoch of a peer, measured in its own process on the same training sequences."""
    from onoma.dataset import split
    from onoma.dataset.load import load

    parts = split(load(data))
    with tempfile.TemporaryDirectory() as folder:
        items, users = parts.train.values.tolist(), parts.train.rows().tolist()
        first = np.datetime64("2020-01-01")
        days = (first + np.arange(len(items)).astype("timedelta64[s]")).astype(str)
        with (Path(folder) / "train.csv").open("w") as handle:
            handle.write("user_id,item_id,datetime\n")
            rows = zip(users, items, days, strict=True)
            handle.writelines(f"u{u},i{i},{t}\n" for u, i, t in rows)
        (Path(folder) / "bench").mkdir()
        with (Path(folder) / "bench" / "bench.inter").open("w") as handle:
            handle.write("user_id:token\titem_id:token\ttimestamp:float\n")
            rows = zip(users, items, range(len(items)), strict=True)
            handle.writelines(f"u{u}\ti{i}\t{t}\n" for u, i, t in rows)
        out = subprocess.run(
            [python, "-W", "ignore", "-c", script, folder, str(width), str(batch), str(steps)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
    line = next((x for x in out.stdout.splitlines() if x.startswith("PEER ")), None)
    if line is None:
        sys.exit(f"the peer failed:\n{out.stderr[-2000:]}")
    found = json.loads(line[5:])
    return float(found["step"] * found["steps"])


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(os.environ.get("ONOMA_DATA", "../shared/data"))
    parser.add_argument("--data", default=str(folder / "amazon-beauty-2014"))
    parser.add_argument("--rectools", default=os.environ.get("ONOMA_RECTOOLS"))
    parser.add_argument("--recbole", default=os.environ.get("ONOMA_RECBOLE"))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    mine, rate = ours(args.data, args.width), matrix_rate()
    print(f"onoma     {mine['seconds']:8.2f} s an epoch, {mine['targets']:,} targets, "
          f"width {args.width}")  # fmt: skip
    share = mine["flop"] / mine["seconds"] / rate
    print(f"          {share:.1%} of the machine's {rate / 1e12:.2f} TFLOP/s matrix rate")
    for name, script, python, batch, target in (
        ("RecTools", RECTOOLS, args.rectools, 128, 3),
        ("RecBole", RECBOLE, args.recbole, 2048, 50),
    ):
        if not python:
            print(f"{name:<9} not compared: give --{name.lower()} PYTHON of an environment with it")
            continue
        theirs = peer(script, args.data, python, args.width, batch, args.steps)
        print(f"{name:<9} {theirs:8.2f} s an epoch: {theirs / mine['seconds']:.1f} times ours "
              f"(target {target})")  # fmt: skip


if __name__ == "__main__":
    main()
