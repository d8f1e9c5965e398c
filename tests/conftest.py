"""Small splits that every room's tests may use, and the real data where it lies."""

import os
from pathlib import Path

# Tests side by side would fight for cores with threads of their own; before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, settings

from onoma.dataset import Dataset, Split, split

# No test fails because the machine has other work.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

ODD_IDS = [
    "naïve ☕",
    "日本語",
    "a,b",
    "' OR 1=1 --",
    "𝒳𝒴",
    " spaced ",
    "0",
    "-1",
    "ümlaut/…",
    "👩‍👩‍👧",
]  # noqa: E501


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Vectors of the tests stay with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONOMA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small_dataset(n_users: int = 60, n_items: int = 40, seed: int = 0) -> Dataset:
    """Users walk a ring of items with some noise; three items have no interaction at all."""
    rng = np.random.default_rng(seed)
    ids = ODD_IDS + [f"item-{i}" for i in range(n_items - len(ODD_IDS))]
    users, items, times = [], [], []
    for user in range(n_users):
        at = int(rng.integers(n_items - 3))
        for step in range(int(rng.integers(1, 12))):
            users.append(f"user-{user}")
            items.append(ids[at])
            times.append(1000 * user + step)
            jump = int(rng.integers(1, 4)) if rng.random() < 0.7 else int(rng.integers(n_items))
            at = (at + jump) % (n_items - 3)
    kinds = ["red lipstick", "blue shampoo", "green soap", "hand cream"]
    catalogue = pl.DataFrame(
        {
            "item_id": ids,
            "title": [
                None if i % 13 == 5 else f"{kinds[i % 4]} number {i}" for i in range(n_items)
            ],
            "brand": ["Unknown" if i % 3 else f"Brand{i % 5}" for i in range(n_items)],
            "categories": [
                None if i % 13 == 5 else ["Beauty", kinds[i % 4]] for i in range(n_items)
            ],
        }
    )
    log = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    return Dataset.construct(log, catalogue, name="small")


@pytest.fixture(scope="session")
def small_split() -> Split:
    """A leave-one-out split of 60 users and 40 items with odd ids."""
    return split(small_dataset())


@pytest.fixture(scope="session")
def tiny_split() -> Split:
    """Four users and fourteen items: fewer than most dimensions."""
    return split(small_dataset(n_users=4, n_items=14))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, by ``ONOMA_DATA`` or beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ONOMA_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ONOMA_DATA")
    return folder
