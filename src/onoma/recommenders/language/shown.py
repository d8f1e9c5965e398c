"""What point-, pair- and list-wise rankers share: the history told, and worked examples before it.

Dai et al., "Uncovering ChatGPT's Capabilities in Recommender Systems", RecSys 2023, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.language import Message
from onoma.language.templates import Template, bulleted
from onoma.recommenders.language.base import Model, Prompted, Question

_OTHERS = 4  # items of an example beside the one that was taken


@dataclass(frozen=True)
class Example:
    """One training user as a worked example.

    Attributes:
        user: code.
        history: int32[l], oldest first.
        items: int32[5], the item that followed, then items that this user never took.
    """

    user: int
    history: NDArray[np.int32]
    items: NDArray[np.int32]


class Shown(Prompted):
    """A :class:`Prompted` whose prompt tells a history, after worked examples of other users.

    Examples are drawn from training interactions alone: what somebody took last in training, and
    four items that they never took there. Nobody is their own example.

    Args:
        model: as of :class:`Prompted`.
        recent: as of :class:`Prompted`; also of an example's history.
        shortlist: as of :class:`Prompted`.
        prompt: a template of the library, or a file; default the policy's own.
        domain: how one speaks of the items, of ``onoma.language.templates``.
        shots: worked examples; policies compare at equal numbers only.
        seed: of the order in which candidates are told, and of the examples.
    """

    template: ClassVar[str]
    most: ClassVar[int] = 2**31  # candidates that can be told

    def __init__(
        self,
        model: Model = "smollm2",
        recent: int = 5,
        shortlist: int = 5,
        prompt: str | None = None,
        domain: str | dict[str, str] = "movies",
        shots: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(model, recent, shortlist, seed)
        if not 0 <= shots <= 5:
            raise ValueError("shots must be between 0 and 5")
        if shortlist > self.most:
            raise ValueError(f"shortlist is at most {self.most}")
        self.prompt, self.domain, self.shots = prompt or self.template, domain, shots
        self._template = Template.load(self.prompt)
        self._examples: list[Example] = []

    def fit(self, split: Split) -> Shown:
        """Count, and draw the examples."""
        super().fit(split)
        self._examples = []
        draw = np.random.default_rng(self.seed)
        able = np.flatnonzero(split.train.lengths >= 2)
        # One more than is told: whoever asks is left out.
        for user in draw.permutation(able)[: self.shots + 1 if self.shots else 0]:
            row = np.asarray(split.train[int(user)], dtype=np.int32)
            rest = np.setdiff1d(np.arange(self.dataset.n_items), row)
            others = draw.permutation(rest)[:_OTHERS]
            items = np.concatenate([row[-1:], others]).astype(np.int32)
            self._examples.append(Example(int(user), row[:-1][-self.recent :], items))
        return self

    def examples(self, question: Question) -> list[Example]:
        """At most ``shots``, none of the user who asks."""
        return [one for one in self._examples if one.user != question.user][: self.shots]

    def history(self, items: NDArray[np.int32]) -> str:
        """The latest titles of a history, the last one last, one a line."""
        titles = self.titles(items[-self.recent :])
        return bulleted(titles) if titles else "- nothing so far"

    def asked(self, **values: str) -> list[Message]:
        """The template with its places filled."""
        return list(self._template.messages(self.domain, **values))

    def after(self, turns: list[tuple[list[Message], str]], last: list[Message]) -> list[Message]:
        """A conversation: worked examples with their answers, then the question."""
        if not turns:
            return last
        system = [part for part in last if part["role"] == "system"]
        out: list[Message] = list(system)
        for messages, answer in turns:
            out += [part for part in messages if part["role"] != "system"]
            out.append({"role": "assistant", "content": answer})
        return out + [part for part in last if part["role"] != "system"]

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        return {
            **super().settings(), "prompt": self.prompt, "domain": self.domain, "shots": self.shots
        }  # fmt: skip

    def arrays(self) -> Mapping[str, Any]:
        """Counts and examples."""
        width = max((len(one.history) for one in self._examples), default=0)
        told = np.full((len(self._examples), width), -1, dtype=np.int32)
        for place, one in enumerate(self._examples):
            told[place, : len(one.history)] = one.history
        items = [np.pad(one.items, (0, 1 + _OTHERS - len(one.items)), constant_values=-1)
                 for one in self._examples]  # fmt: skip
        return {
            **super().arrays(),
            "example_users": np.array([one.user for one in self._examples], dtype=np.int32),
            "example_histories": told,
            "example_items": np.array(items, dtype=np.int32).reshape(-1, 1 + _OTHERS),
        }

    def _restore(self, arrays: Mapping[str, Any]) -> None:
        super()._restore(arrays)
        self._examples = [
            Example(int(user), history[history >= 0], items[items >= 0])
            for user, history, items in zip(
                arrays["example_users"], arrays["example_histories"], arrays["example_items"],
                strict=True,
            )
        ]  # fmt: skip
