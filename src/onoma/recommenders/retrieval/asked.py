"""Interests and tags that a language model finds, behind the interface of the rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Dataset, Ragged
from onoma.language import BadAnswer, Decoding, LanguageModel
from onoma.language.logs import Event, brief, compressed
from onoma.language.templates import Template, joined
from onoma.recommenders.retrieval.interests import Miner, RuleMiner, Tags

_POOL = 24  # interests to choose from
_RECENT = 10  # titles that the second prompt tells


class ModelMiner(Miner):
    """Asks for interests of a compressed log, then for tags of these interests.

    Both answers are held to a form: interests come from a pool of categories, the user's own and
    those near them; tags pair one of the user's words with a category. A tag that no item has, or
    too many, is turned down; where no answer is of use, the rule's stand in its place. All is
    counted.

    Args:
        model: what is asked.
        rule: gives pools, and stands in.
        dataset: for names.
        domain: how one speaks of the items.
        interests: at most.
        tags: asked for.
    """

    def __init__(
        self,
        model: LanguageModel,
        rule: RuleMiner,
        dataset: Dataset,
        domain: Any = "products",
        interests: int = 4,
        tags: int = 8,
    ) -> None:
        self.model, self.rule, self.domain = model, rule, domain
        self.facets, self.answers = rule.facets, Counter()
        self.interests, self.tags = interests, tags
        self.names = brief(dataset.items)
        self.prompts = tuple(Template.load(f"recgpt-{name}") for name in ("interests", "tags"))

    def mine(self, history: Ragged) -> Tags:
        """The interests and tags of n rows; the rule's in rows without a history."""
        plain = self.rule.mine(history)
        rows = [row for row in range(len(history)) if len(history[row])]
        found = self.model.each(lambda row: self._mined(history[row], plain, row), rows)
        wide = max(self.tags, plain.kinds.shape[1])
        out = Tags(
            interests=_widened(plain.interests, wide),
            kinds=_widened(plain.kinds, wide),
            words=_widened(plain.words, wide),
            sources=_widened(plain.sources, wide),
            weights=_widened(plain.weights, wide, 0),
        )
        for row, answer in zip(rows, found, strict=True):
            self.answers["asked"] += 1
            if isinstance(answer, BadAnswer):
                self.answers[f"rejected: {answer.kind}"] += 1
                continue
            liked, pairs = answer
            pairs = self._judged(pairs)
            if not pairs:
                self.answers["rejected: no tag of use"] += 1
                continue
            self.answers["tags"] += len(pairs)
            for table in (out.interests, out.kinds, out.words, out.sources):
                table[row] = -1
            out.weights[row] = 0
            out.interests[row, : len(liked)] = liked
            for place, (kind, word) in enumerate(pairs):
                out.kinds[row, place], out.words[row, place] = kind, word
                near = self.facets.near[liked, kind] + 1e9 * (np.array(liked) == kind)
                out.sources[row, place] = liked[int(np.argmax(near))]
                out.weights[row, place] = 1 / len(pairs)
        return out

    def _mined(
        self, history: NDArray[np.integer], plain: Tags, row: int
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Interests and (category, word) pairs; both in the model's order."""
        kinds, words = self.facets.kinds, self.facets.words
        offered = np.concatenate([plain.interests[row], plain.kinds[row]])
        pool = list(dict.fromkeys(int(code) for code in offered if code >= 0))[:_POOL]
        terms = list(dict.fromkeys(int(code) for code in plain.words[row] if code >= 0))
        if not pool or not terms:
            raise BadAnswer("empty", "nothing to ask about", where=self.model.identity)
        log = compressed([Event(int(item), "took") for item in history], self.names)
        liked = self._chosen(
            self.prompts[0].messages(
                self.domain, log=log, count=self.interests, pool=joined(kinds[k] for k in pool)
            ),
            _list({"enum": [kinds[k] for k in pool]}, 1, self.interests),
        )
        code = {kinds[k]: k for k in pool}
        interests = list(dict.fromkeys(code[name] for name in liked))
        pair = {
            "type": "object",
            "properties": {
                "word": {"enum": [words[w] for w in terms]},
                "kind": {"enum": [kinds[k] for k in pool]},
            },
            "required": ["word", "kind"],
            "additionalProperties": False,
        }
        recent = history[-_RECENT:]
        found = self._chosen(
            self.prompts[1].messages(
                self.domain,
                interests=joined(kinds[k] for k in interests),
                history=joined((self.names[int(item)] for item in recent), "; "),
                count=self.tags,
                words=joined(words[w] for w in terms),
                kinds=joined(kinds[k] for k in pool),
            ),
            _list(pair, 1, self.tags),
        )
        word = {words[w]: w for w in terms}
        return interests, [(code[tag["kind"]], word[tag["word"]]) for tag in found]

    def _chosen(self, messages: Sequence[dict[str, str]], schema: dict[str, Any]) -> list[Any]:
        room = Decoding(max_tokens=64 + 24 * self.tags)
        found: list[Any] = self.model.complete(messages, schema=schema, decoding=room).data["found"]
        return found

    def _judged(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Tags that are of use, in order."""
        out: list[tuple[int, int]] = []
        for pair in pairs:
            count = int(self.facets.both[pair])
            if pair in out:
                self.answers["repeated"] += 1
            elif not count:
                self.answers["rejected: of no item"] += 1
            elif count > self.rule.broad:
                self.answers["rejected: too broad"] += 1
            else:
                out.append(pair)
        return out


def _list(of: dict[str, Any], low: int, high: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"found": {"type": "array", "items": of, "minItems": low, "maxItems": high}},
        "required": ["found"],
        "additionalProperties": False,
    }


def _widened(table: NDArray[Any], width: int, fill: int = -1) -> NDArray[Any]:
    """A copy with at least ``width`` columns."""
    more = max(0, width - table.shape[1])
    return np.pad(table, ((0, 0), (0, more)), constant_values=fill)
