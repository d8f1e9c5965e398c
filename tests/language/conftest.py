"""The tests' language model as a fixture."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session")
def tiny_folder():
    """The folder of a small real causal model of random weights."""
    from tiny import tiny_folder

    return tiny_folder()
