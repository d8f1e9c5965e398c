"""An index directory or a run directory, opened with the data that its names were made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onoma.errors import OnomaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from onoma.dataset import Dataset, Split
    from onoma.indexing import ItemIndex
    from onoma.recommenders.generative.naming import NameSettings
    from onoma.run import Run


@dataclass
class Named:
    """Names and where they came from; everything is read when it is asked for.

    Attributes:
        path: what ``onoma index build`` or ``onoma run`` wrote.
    """

    path: Path

    @cached_property
    def index(self) -> ItemIndex:
        """The names.

        Raises:
            OnomaError: there are none.
        """
        from onoma.indexing import ItemIndex

        whole = (self.path / "index.json").is_file()
        folder = self.path if whole else self.path / "index"
        if not (folder / "index.json").is_file():
            raise OnomaError(
                "no names here (index/index.json is missing)", where=str(self.path),
                fix="Only recommenders that spell names have an index",
            )  # fmt: skip
        return ItemIndex.load(folder)

    @property
    def known(self) -> bool:
        """Whether the folder says what data it names."""
        return self.run is not None or isinstance(self.source.get("data"), str)

    @cached_property
    def run(self) -> Run | None:
        """The run that the names belong to, if any."""
        from onoma.run import open_run

        return open_run(self.path) if (self.path / "recipe.yaml").is_file() else None

    @property
    def source(self) -> dict[str, Any]:
        """What ``onoma index build`` remembers of its data, settings and costs."""
        source = self.index.meta.get("source")
        return source if isinstance(source, dict) else {}

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the names name.

        Raises:
            OnomaError: the index does not say, or the data changed since.
        """
        from onoma.dataset.load import load

        if self.run is not None:
            return self.run.dataset
        if not self.known:
            raise OnomaError("the index does not say what data it names", where=str(self.path))
        dataset = load(self.source["data"])
        if dataset.hash != self.source.get("hash"):
            raise OnomaError(
                "the data changed since the index was built", where=str(self.path),
                fix="Build it again",
            )  # fmt: skip
        if dataset.n_items != self.index.n_items:
            raise OnomaError(
                f"{self.index.n_items} names for {dataset.n_items} items", where=str(self.path)
            )
        return dataset

    @cached_property
    def split(self) -> Split:
        """The split that the names were made on."""
        from onoma.dataset import split

        return split(self.dataset) if self.run is None else self.run.split

    @cached_property
    def vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, dim], the vectors that the items were named by; None without any."""
        from onoma import encoding

        if self.run is not None:
            how = self._settings.index.get("encoder", self._settings.encoder)
        else:
            how = self.source.get("encoder")
        if how is None:
            return None
        return encoding.cached(encoding.build(how), self.split)

    @property
    def _settings(self) -> NameSettings:
        """The checked settings of the run's recommender, with what the recipe does not say."""
        from onoma.recommenders.generative.naming import NamesItems
        from onoma.run import build

        assert self.run is not None
        recommender = build(self.run.recipe)
        assert isinstance(recommender, NamesItems)
        return recommender.settings

    @property
    def cost(self) -> dict[str, Any]:
        """``seconds`` of naming and ``peak_memory_mb`` of the process that named, where known."""
        found: dict[str, Any] = self.source
        if self.run is not None:
            try:
                found = json.loads((self.path / "metrics.json").read_text("utf-8"))
            except (OSError, ValueError):
                found = {}
        seconds = found.get("seconds")
        return {
            "seconds": seconds.get("index") if isinstance(seconds, dict) else None,
            "peak_memory_mb": found.get("peak_memory_mb"),
        }

    def again(self, seed: int) -> ItemIndex:
        """The same data named the same way from another seed.

        Raises:
            OnomaError: the settings of the naming are not known.
        """
        from onoma import indexing

        if self.run is not None:
            how = dict(self._settings.index)
            name = how.pop("method")
            how.pop("encoder", None)
        elif isinstance(self.source.get("settings"), dict):
            name, how = self.index.method, self.source["settings"]
        else:
            raise OnomaError(
                "the index does not say how it was built", where=str(self.path),
                fix="Build it again",
            )  # fmt: skip
        return indexing.build(name, **how).build(self.split, self.vectors, seed)
