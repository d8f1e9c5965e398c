"""Titles that a language model writes out of what it knows, found in the catalogue.

Di Palma et al., "Evaluating ChatGPT as a Recommender System: A Rigorous Approach" (S053, the free
setting); Liu et al., "Is ChatGPT a Good Recommender? A Preliminary Study" (S112, the open form of
the sequential task).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Split
from onoma.dataset.events import log_rows
from onoma.errors import OnomaError
from onoma.language import BadAnswer, Decoding
from onoma.language.grounding import Counts, Grounded, Grounder
from onoma.language.templates import Template, bulleted
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.language.base import Model, Prompted, Question
from onoma.recommenders.language.likelihood import dated

_TITLE_TOKENS = 24  # written for one title at most, on average
_RATING = re.compile(r"\s*:\s*\d(?:\.\d)?(?:\s*/\s*\d+)?$")


class Titles(Prompted):
    """Shows a history, takes the titles that are written in reply, and adds nothing in secret.

    What is written is matched with the catalogue (:class:`onoma.language.grounding.Grounder`).
    Titles that name nothing there, the same item again or one of the history are counted and left
    out. Named items have positive scores, in their order; in mode ``filled`` all others follow by
    popularity at scores of 0 and below, in mode ``named`` lists end where the answer ends. A
    history without items is not asked about.

    The papers' answers come from hosted chat models and are matched by a threshold on spelling;
    ours may be any model, numerals must agree so that no sequel is taken for another, and meaning
    is tried last. Of an answer that ends at the token limit all but the last title count.

    Args:
        model: which language model.
        recent: items of the history that are told, the latest ones.
        wanted: titles that are asked for.
        prompt: a template with places for ``k`` and for ``ratings`` (titles with the user's
            ratings from training, where the log has them) or ``history`` (titles).
        domain: how one speaks of the items, of ``onoma.language.templates``.
        encoder: a text encoder to match by meaning; None leaves this step out.
        seed: of the base class; nothing is drawn.
    """

    name: ClassVar[str] = "titles-llm"
    reads: ClassVar[frozenset[str]] = frozenset({"history", "users"})
    modes: ClassVar[tuple[str, ...]] = ("filled", "named")
    batch: ClassVar[int] = 64

    def __init__(
        self,
        model: Model = "smollm2",
        recent: int = 10,
        wanted: int = 10,
        prompt: str = "free-top-n",
        domain: str | dict[str, str] = "movies",
        encoder: str | dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        # It may name anything: there is no list that it looks at.
        super().__init__(model, recent, shortlist=2**31, seed=seed)
        if wanted < 1:
            raise ValueError("wanted must be at least 1")
        self.wanted, self.prompt, self.domain, self.encoder = wanted, prompt, domain, encoder
        self._template = Template.load(prompt)
        if not {"ratings", "history"} & self._template.placeholders.keys():
            raise OnomaError("no place for ratings or history", where=f"prompt {prompt}")
        self._ratings = sp.csr_array((0, 0), dtype=np.float32)

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        own = ("model", "recent", "wanted", "prompt", "domain", "encoder", "seed")
        return {name: getattr(self, name) for name in own}

    def fit(self, split: Split) -> Self:
        """Count, and keep what training users gave."""
        super().fit(split)
        self.__dict__.pop("_grounder", None)
        log, shape = split.dataset.interactions, (split.dataset.n_items, split.dataset.n_users)
        self._ratings = sp.csr_array(shape, dtype=np.float32)
        if "rating" in log.columns:
            given = log["rating"].to_numpy()[log_rows(split).train].astype(np.float32)
            known = np.flatnonzero(np.isfinite(given) & (given != 0))
            # The latest counts where somebody rated an item twice.
            keys = split.train.values.astype(np.int64) * shape[1] + split.train.rows()
            _, last = np.unique(keys[known][::-1], return_index=True)
            kept = known[::-1][last]
            places = (split.train.values[kept], split.train.rows()[kept])
            self._ratings = sp.coo_array((given[kept], places), shape=shape).tocsr()
        return self

    @cached_property
    def _grounder(self) -> Grounder:
        embed, titles = None, self.titles(range(self.dataset.n_items))
        if self.encoder is not None:
            from onoma.encoding import build
            from onoma.encoding.base import TextEncoder

            encoder = build(self.encoder)
            if not isinstance(encoder, TextEncoder):
                raise OnomaError("reads no texts", where=f"{self.name}: encoder {encoder.name}")
            embed = encoder.fit(titles).encode_texts
        return Grounder(titles, embed=embed)

    def questions(self, requests: Requests, candidates: NDArray[np.int32] | None) -> list[Question]:
        """Requests that have a history; all of the catalogue may be named."""
        every = np.arange(self.dataset.n_items, dtype=np.int32)
        return [
            Question(
                row,
                -1 if requests.users is None else int(requests.users[row]),
                np.asarray(requests.history[row], dtype=np.int32),
                every,
            )
            for row in range(len(requests))
            if len(requests.history[row])
        ]

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """Places of the items that an answer names, counted from its end; NaN for all others."""
        grounder = self._grounder  # one for all threads
        out: list[NDArray[np.float64] | BadAnswer] = []
        for question, answer in zip(questions, self._written(questions), strict=True):
            if isinstance(answer, BadAnswer):
                out.append(answer)
                continue
            told = self._found(grounder, answer[: self.wanted])
            for key, count in Counts.of(told).report().items():
                self.answers["out of catalogue" if key == "rejected" else key] += count
            found = list(dict.fromkeys(one.row for one in told if one.row >= 0))
            known = set(question.history.tolist())
            fresh = [item for item in found if item not in known]
            self.answers["named before"] += len(found) - len(fresh)
            self.answers["named"] += len(fresh)
            values = np.full(self.dataset.n_items, np.nan)
            values[fresh] = np.arange(len(fresh), 0, -1)
            out.append(values)
        return out

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: above 0 what was named, at most 0 what follows by popularity."""
        return self._whole(requests)[0]

    def _whole(self, requests: Requests) -> tuple[Tensor, NDArray[np.bool_]]:
        n_items = self.dataset.n_items
        out = np.tile(-self._followers(), (len(requests), 1))
        answered = np.ones(len(requests), dtype=bool)
        questions = self.questions(requests, None)
        for question, values in zip(questions, self.judge(questions), strict=True):
            self.answers["asked"] += 1
            if isinstance(values, BadAnswer):
                self.answers[f"rejected: {values.kind}"] += 1
                answered[question.row] = False
                continue
            named = np.flatnonzero(~np.isnan(values))
            if not len(named):
                self.answers["rejected: nothing found"] += 1
                answered[question.row] = False
            out[question.row, named] = n_items - (len(named) - values[named])
        return torch.from_numpy(out), answered

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        scores, answered = self._whole(requests)
        if mode == "named":
            scores = scores.masked_fill(scores <= 0, -torch.inf)
        items = None
        if requests.candidates is not None:
            items = torch.from_numpy(requests.candidates.astype(np.int64))
            scores = scores.gather(1, items.clamp(min=0))
        ranking = top_k(scores, k, forbidden=requests.forbidden(), items=items)
        return replace(ranking, answered=answered)

    def language_report(self) -> dict[str, Any]:
        """As of the base class, and how much of the lists is the model's own."""
        asked = self.answers["asked"] * self.wanted
        share = self.answers["named"] / asked if asked else 0.0
        return {**super().language_report(), "wanted": self.wanted, "filled by the model": share}

    def arrays(self) -> Mapping[str, Any]:
        """Counts, and who gave what."""
        return {**super().arrays(), "ratings": self._ratings}

    def _restore(self, arrays: Mapping[str, Any]) -> None:
        super()._restore(arrays)
        self._ratings = arrays["ratings"]

    def _written(self, questions: Sequence[Question]) -> list[list[str] | BadAnswer]:
        """The titles of each answer, as they are written."""
        room = Decoding(max_tokens=32 + _TITLE_TOKENS * self.wanted)

        def ask(question: Question) -> str:
            return self.language.complete(self._messages(question), decoding=room).text

        out: list[list[str] | BadAnswer] = []
        for answer in self.language.each(ask, questions):
            if not isinstance(answer, BadAnswer):
                out.append(self._grounder.lines(answer))
            elif answer.kind == "cut" and (written := self._grounder.lines(answer.text)[:-1]):
                self.answers["repaired: cut"] += 1
                out.append(written)
            else:
                out.append(answer)
        return out

    def _messages(self, question: Question) -> list[dict[str, str]]:
        last = question.history[-self.recent :]
        titles = [dated(title) for title in self.titles(last)]
        values: dict[str, str | int] = {"k": self.wanted}
        if "history" in self._template.placeholders:
            values["history"] = bulleted(titles)
        if "ratings" in self._template.placeholders:
            known = 0 <= question.user < self._ratings.shape[1]
            given = [self._ratings[int(item), question.user] if known else 0 for item in last]
            values["ratings"] = bulleted(
                f"{title}: {value:g}" if value else title
                for title, value in zip(titles, given, strict=True)
            )
        return self._template.messages(self.domain, **values)

    def _found(self, grounder: Grounder, texts: Sequence[str]) -> list[Grounded]:
        """What each text names; a rating behind a title, as the prompt has them, is left out."""
        found = grounder.ground(texts)
        if "ratings" in self._template.placeholders:
            left = [place for place, one in enumerate(found) if one.row < 0]
            again = grounder.ground([_RATING.sub("", texts[place]) for place in left])
            for place, one in zip(left, again, strict=True):
                found[place] = one
        return found
