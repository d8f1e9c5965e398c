"""A newcomer's keywords and the candidates' own, put in order by a language model.

Kieu, Nguyen, Nguyen, Nguyen and Le, "Keyword-driven Retrieval-Augmented Large Language Models for
Cold-start User Recommendations", 2024 (KALM4Rec, the second stage).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Dataset, Ragged, Split
from onoma.dataset.events import log_rows
from onoma.language import BadAnswer, Decoding, Message
from onoma.language.templates import Template, joined, lettered
from onoma.recommenders.base import Requests
from onoma.recommenders.language.base import Model, Prompted, Question
from onoma.recommenders.retrieval.keywords import Keywords, given_keywords

_EXAMPLE = 8  # candidates of a worked example


class KeywordRanker(Prompted):
    """Shows the keywords asked for and each candidate's own, and takes an order of letters.

    The answer is held to ``best`` letters of the candidates. Letters that come twice count once
    (``repaired: repeated``); what the answer leaves out follows in the order of the keyword graph
    (``repaired: left out``), so it is always an order of all. Worked examples are training users:
    the keywords of their reviews without that of the last item, eight candidates of the graph with
    that item among them, and an answer that begins with it.

    Departures: letters and a schema in the place of names that are parsed; the candidates are told
    in an order drawn by seed, where the paper keeps that of retrieval.

    Args:
        model: which language model.
        shortlist: candidates that are asked about at most.
        best: how many are asked for.
        shots: worked examples.
        told: keywords of each candidate.
        keep: keywords of the newcomer, as of :class:`Keywords`.
        encoder: for words that training does not know, as of :class:`Keywords`.
        prompt: a template with places for ``keywords``, ``candidates`` and ``k``.
        domain: how one speaks of the items, of ``onoma.language.templates``.
        seed: of the order in which candidates are told, and of the examples.
    """

    name: ClassVar[str] = "keywords-llm"
    reads: ClassVar[frozenset[str]] = frozenset({"query", "context", "history", "candidates"})

    def __init__(
        self,
        model: Model = "smollm2",
        shortlist: int = 20,
        best: int = 15,
        shots: int = 0,
        told: int = 5,
        keep: int = 20,
        encoder: str | None = "minilm",
        prompt: str = "rerank-keywords",
        domain: str | dict[str, str] = "products",
        seed: int = 0,
    ) -> None:
        super().__init__(model, 1, shortlist, seed)
        if not 0 <= shots <= 3 or best < 1 or told < 1 or shortlist > len(ascii_uppercase):
            raise ValueError(
                "shots is 0 to 3, best and told at least 1, shortlist at most 26 (one letter each)"
            )
        self.best, self.shots, self.told, self.keep = best, shots, told, keep
        self.encoder, self.prompt, self.domain = encoder, prompt, domain
        self._template = Template.load(prompt)
        self._graph = Keywords(keep=keep, encoder=encoder)
        self._examples: list[dict[str, Any]] = []

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        own = ("model", "shortlist", "best", "shots", "told", "keep", "encoder", "prompt",
               "domain", "seed")  # fmt: skip
        return {name: getattr(self, name) for name in own}

    @property
    def window(self) -> int | None:
        """None: the graph is asked with the whole history."""
        return None

    def fit(self, split: Split) -> Self:
        """Fit the graph and draw the examples."""
        super().fit(split)
        self._graph.fit(split)
        self._examples = []
        reviews = _reviews(split) if self.shots else {}
        able = [user for user in sorted(reviews) if len(reviews[user]) >= 3]
        draw = np.random.default_rng(self.seed)
        for user in draw.permutation(np.array(able, dtype=np.int64)):
            if len(self._examples) == self.shots:
                break
            *before, (target, own) = reviews[int(user)]
            said = [text for item, text in before if item != target and text != own]
            asked = Requests(
                Ragged.from_rows([[item for item, _ in before if item != target]]),
                query=["\n".join(said)],
            )
            found = self._graph.recommend(asked, _EXAMPLE).items[0]
            others = found[(found >= 0) & (found != target)][: _EXAMPLE - 1]
            if words := self._graph.keywords(asked.query or [""])[0]:
                items = draw.permutation(np.append(others, target)).tolist()
                # The truth first, then the order of retrieval.
                order = [items.index(item) for item in [target, *others.tolist()]]
                self._examples.append({"words": words, "items": items, "order": order})
        return self

    def questions(self, requests: Requests, candidates: NDArray[np.int32] | None) -> list[Question]:
        """As of the base class; keywords of the context become the query."""
        texts = list(requests.query or [""] * len(requests))
        for row, one in enumerate(requests.context or ()):
            if words := given_keywords(one):
                texts[row] = ", ".join(words)
        return super().questions(replace(requests, query=texts), candidates)

    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """Places counted from the end: what was named, then the others by the graph."""
        asked = Requests(
            Ragged.from_rows([question.history for question in questions]),
            query=[question.query for question in questions],
        )
        words = self._graph.asked(asked)
        graph = self._graph.score(asked).numpy()
        answers = self.language.each(
            lambda at: self._order(words[at], questions[at].candidates), range(len(questions))
        )
        out: list[NDArray[np.float64] | BadAnswer] = []
        for row, (question, order) in enumerate(zip(questions, answers, strict=True)):
            if isinstance(order, BadAnswer):
                out.append(order)
                continue
            named = list(dict.fromkeys(order))
            size = len(question.candidates)
            rest = [at for at in np.argsort(-graph[row, question.candidates], kind="stable")
                    if at not in named]  # fmt: skip
            self.answers["repaired: repeated"] += len(named) < len(order)
            self.answers["repaired: left out"] += len(named) < min(self.best, size)
            values = np.empty(size)
            values[[*named, *rest]] = -np.arange(size, dtype=np.float64)
            out.append(values)
        return out

    def _order(self, words: Sequence[str], items: NDArray[np.int32]) -> list[int]:
        """Places of candidates as the model names them, repeats and all."""
        last = self._messages(words, items)
        system = [part for part in last if part["role"] == "system"]
        turns: list[Message] = []
        for one in self._examples:
            shown = self._messages(one["words"], np.array(one["items"], dtype=np.int32))
            turns += [part for part in shown if part["role"] != "system"]
            letters = [ascii_uppercase[place] for place in one["order"]]
            turns.append({"role": "assistant", "content": json.dumps({"order": letters})})
        messages = [*system, *turns, *(part for part in last if part["role"] != "system")]
        letters, wanted = list(ascii_uppercase[: len(items)]), min(self.best, len(items))
        order = {
            "type": "array",
            "items": {"enum": letters},
            "minItems": wanted,
            "maxItems": wanted,
        }
        schema = {
            "type": "object",
            "properties": {"order": order},
            "required": ["order"],
            "additionalProperties": False,
        }
        room = Decoding(max_tokens=24 + 8 * wanted)
        done = self.language.complete(messages, schema=schema, decoding=room)
        return [letters.index(letter) for letter in done.data["order"]]

    def _messages(self, words: Sequence[str], items: NDArray[np.int32]) -> list[Message]:
        own = self._graph.of_items(items, self.told)
        lines = [
            f"{title} ({', '.join(words)})" if words else title
            for title, words in zip(self.titles(items), own, strict=True)
        ]
        return list(
            self._template.messages(
                self.domain,
                keywords=joined(words, longest=40) or "nothing in particular",
                candidates=lettered(lines),
                k=min(self.best, len(items)),
            )
        )

    def arrays(self) -> Mapping[str, Any]:
        """Counts, and the examples as text."""
        text = json.dumps(self._examples).encode()
        return {**super().arrays(), "examples": np.frombuffer(text, dtype=np.uint8)}

    def save(self, folder: str | Path) -> None:
        """As of the base class, and the graph in a folder of its own."""
        super().save(folder)
        self._graph.save(Path(folder) / "keywords")

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        model = super().load(folder, dataset)
        model._graph = Keywords.load(Path(folder) / "keywords", dataset)
        return model

    def _restore(self, arrays: Mapping[str, Any]) -> None:
        super()._restore(arrays)
        self._examples = json.loads(np.asarray(arrays["examples"]).tobytes().decode())


def _reviews(split: Split) -> dict[int, list[tuple[int, str]]]:
    """Items and reviews of each training user, oldest first; none where the log has no reviews."""
    log = split.dataset.interactions
    if "review_text" not in log.columns:
        return {}
    texts = log["review_text"].fill_null("").gather(log_rows(split).train).to_list()
    out: dict[int, list[tuple[int, str]]] = {}
    pairs = zip(split.train.rows().tolist(), split.train.values.tolist(), strict=True)
    for (user, item), text in zip(pairs, texts, strict=True):
        out.setdefault(user, []).append((item, text))
    return out
