"""What the catalogue says of an item beside what a language model writes about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.encoding.base import Encoder, TextEncoder, unit_rows
from onoma.encoding.joined import Composite
from onoma.encoding.shuffled import Shuffled
from onoma.encoding.written import Written


class Augmented(Composite):
    """The vectors of the original text and of each generated one, side by side.

    LLM-Rec (Lyu et al., NAACL Findings 2024), step 3. Where nothing was written about an item, its
    original text stands in every place. Rows have unit length again at the end.

    Args:
        prompts: of :data:`onoma.encoding.written.PROMPTS`, one generated text each.
        model: as of :func:`onoma.language.opening.open_model`.
        of: the text encoder of all.
        shuffled: the control: a seed by which the generated texts are dealt out among the items
            they were written about; None leaves them where they belong.
        written: other settings of :class:`onoma.encoding.written.Written`.
    """

    name = "augmented"

    def __init__(
        self,
        prompts: Sequence[str] = ("driven-shared-tags",),
        model: Any = "smollm2",
        of: Any = "sentence",
        shuffled: int | None = None,
        **written: Any,
    ) -> None:
        from onoma.encoding import build

        if not prompts or len(set(prompts)) < len(prompts):
            raise ValueError("prompts must be distinct, and at least one")
        original = build(of)
        self.written = [Written(prompt, model, original, **written) for prompt in prompts]
        for other in self.written[1:]:
            other.lender = self.written[0]  # one engine for all
        if not isinstance(original, TextEncoder):
            raise ValueError(f"{original.name} reads no texts")
        self.shuffled = shuffled
        generated: list[Encoder] = list(self.written)
        if shuffled is not None:
            generated = [Shuffled(part, shuffled) for part in self.written]
        self.parts = [original, *generated]

    def settings(self) -> dict[str, Any]:
        """The parts with their settings."""
        return {"parts": [{"name": part.name, **part.settings()} for part in self.parts]}

    def join(self, views: Sequence[NDArray[np.float32]], split: Split) -> NDArray[np.float32]:
        """Side by side; the original where nothing was written."""
        original = views[0]
        told = [
            np.where((view != 0).any(axis=1, keepdims=True), view, original) for view in views[1:]
        ]
        return unit_rows(np.concatenate([original, *told], axis=1))

    def encode_new(
        self, catalogue: pl.DataFrame, items: pl.DataFrame, width: int | None = None
    ) -> NDArray[np.float32]:
        """The original text in every place: nothing was written about a new item."""
        count = len(self.parts)
        original = self.parts[0].encode_new(
            catalogue, items, None if width is None else width // count
        )
        return unit_rows(np.concatenate([original] * count, axis=1))

    def report(self, split: Split) -> dict[str, Any]:
        """The cost sheet: of each prompt what was answered and what it took an item."""
        sheets = {}
        answers: Counter[str] = Counter()
        for part in self.written:
            part.texts(split)
            assert part.sheet is not None
            sheets[part.prompt] = part.sheet.describe()
            answers.update(part.sheet.answers)
        language = self.written[0].language
        return {
            "model": language.identity,
            "answers": dict(sorted(answers.items())),
            "usage": getattr(language, "recorded", language.meter).report(),
            "prompts": sheets,
            "note": "An item without a text of use keeps its original one in every place.",
        }
