"""Training is repeatable, and a killed run ends with the bits of an uninterrupted one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from onoma.errors import OnomaError
from onoma.neural.checkpoint import Checkpoint

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
import numpy as np, polars as pl
from onoma.dataset import Dataset, split
from onoma.recommenders.sequential.sasrec import SASRec
rng = np.random.default_rng(0)
log = pl.DataFrame({
    "user_id": np.repeat(np.arange(300), 10).astype(str),
    "item_id": (rng.zipf(1.3, 3000) % 150).astype(str),
    "timestamp": np.arange(3000),
})
model = SASRec(
    width=16, dropout=0.3, folder=sys.argv[1], quiet=True, seed=3,
    train={"epochs": 12, "batch_tokens": 256, "checkpoint_seconds": 0, "patience": 9},
)
model.fit(split(Dataset.construct(log)))
model.save(sys.argv[1])
"""
KILLS = int(os.environ.get("ONOMA_KILLS", "3"))


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)])


def kill_after(folder: Path, rows: int, seconds: float) -> bool:
    """Run until the log has so many rows, wait a little, kill; False when the run was faster."""
    run, log = start(folder), folder / "log.jsonl"
    while run.poll() is None and (not log.exists() or log.read_text().count("\n") < rows):
        time.sleep(0.001)
    time.sleep(seconds)
    ended = run.poll() is not None
    run.send_signal(signal.SIGKILL)
    run.wait()
    return not ended


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder).wait() == 0
    return folder


@pytest.mark.parametrize("attempt", range(KILLS))
def test_a_killed_run_ends_with_the_same_bits(whole, tmp_path, attempt):
    chance = random.Random(attempt)
    first = chance.randint(0, 4)
    second = chance.randint(first + 1, 10)
    assert kill_after(tmp_path, first, chance.uniform(0, 0.05))
    kill_after(tmp_path, second, chance.uniform(0, 0.05))
    assert start(tmp_path).wait() == 0
    want, got = (load_file(f / "model.safetensors") for f in (whole, tmp_path))
    assert want.keys() == got.keys()
    assert all(torch.equal(want[k], got[k]) for k in want)
    logs = [
        [line.split(', "seconds"')[0] for line in (f / "log.jsonl").read_text().splitlines()]
        for f in (whole, tmp_path)
    ]
    assert logs[0] == logs[1]


def test_a_cut_checkpoint_is_one_clear_line(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    Checkpoint({"model.a": torch.ones(100)}, {"step": 1}).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OnomaError, match="checkpoint.safetensors") as error:
        Checkpoint.load(path)
    assert "\n" not in str(error.value)


class Slope:
    """Fits one number to another by squared error."""

    def __init__(self, model):
        self.model = model

    def plan(self, seed, epoch):
        return [0, 1, 2]

    def loss(self, batch):
        return (self.model.weight - 3.0).square().sum()

    def validate(self):
        return -float((self.model.weight - 3.0).square().sum())


@pytest.mark.parametrize("left", [0.0, 1e6])
def test_gradients_of_an_earlier_stage_do_not_count(left):
    """Weights that rest now kept what they had last; the clipping is not to see it."""
    from onoma.neural.noise import Noise
    from onoma.neural.trainer import Trainer, TrainSettings

    model = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(model.weight)
    model.bias.requires_grad_(False)
    model.bias.grad = torch.full_like(model.bias, left)
    settings = TrainSettings(epochs=4, lr=0.1, weight_decay=0, clip=1.0, warmup=0, valid_every=1)
    Trainer(settings, quiet=True).fit(model, Noise(), Slope(model))
    assert float(model.weight.detach()) == pytest.approx(0.65, abs=1e-4)
