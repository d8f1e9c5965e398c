"""Onoma: give every item a name a model can speak, and recommend by saying names."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onoma.dataset import Cases as Cases
    from onoma.dataset import Dataset as Dataset
    from onoma.dataset import Ragged as Ragged
    from onoma.dataset import Split as Split
    from onoma.dataset import split as split
    from onoma.dataset.load import load as load
    from onoma.errors import OnomaError as OnomaError
    from onoma.evaluation.evaluate import Evaluation as Evaluation
    from onoma.evaluation.evaluate import evaluate as evaluate
    from onoma.indexing import ItemIndex as ItemIndex
    from onoma.recipe import Recipe as Recipe
    from onoma.recommenders import Ranking as Ranking
    from onoma.recommenders import Recommender as Recommender
    from onoma.recommenders import Requests as Requests
    from onoma.run import Run as Run
    from onoma.run import open_run as open_run
    from onoma.run import run as run

__version__ = "0.1.0"

# Imported when first asked for: `import onoma` must not pay for torch.
_LAZY = {
    "Cases": "onoma.dataset",
    "Dataset": "onoma.dataset",
    "Evaluation": "onoma.evaluation.evaluate",
    "ItemIndex": "onoma.indexing",
    "OnomaError": "onoma.errors",
    "Ragged": "onoma.dataset",
    "Ranking": "onoma.recommenders",
    "Recipe": "onoma.recipe",
    "Recommender": "onoma.recommenders",
    "Requests": "onoma.recommenders",
    "Run": "onoma.run",
    "Split": "onoma.dataset",
    "evaluate": "onoma.evaluation.evaluate",
    "load": "onoma.dataset.load",
    "open_run": "onoma.run",
    "run": "onoma.run",
    "split": "onoma.dataset",
}

__all__ = ["__version__", *_LAZY]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'onoma' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


class _Package(ModuleType):
    """Keeps ``onoma.run`` the function although ``onoma/run.py`` is imported as a submodule."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LAZY and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
