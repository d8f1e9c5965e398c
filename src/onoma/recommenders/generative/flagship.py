"""The flagship: one transformer over items that both spells the next item's name and ranks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onoma.dataset import Dataset, Ragged, Split
from onoma.errors import OnomaError
from onoma.indexing import ItemIndex
from onoma.neural.blocks import SequenceEncoder
from onoma.neural.device import autocast, matrix_dtype
from onoma.neural.loss import full_softmax, masses
from onoma.neural.noise import Noise
from onoma.neural.teacher import NameTeacher
from onoma.recommenders.base import Ranking, Recommender, Requests, top_k
from onoma.recommenders.generative.named import NamedModule, NamedRecommender, NamedSettings
from onoma.recommenders.storage import load_model, read_model, save_model
from onoma.recommenders.transformer import ItemSequenceModule
from onoma.recommenders.tuning import choose, grid
from onoma.recommenders.walk import Walk


class FlagshipSettings(NamedSettings):
    """What the flagship has beside trunk and names.

    Attributes:
        trunk: a fitted flagship's run folder; its item vectors, transformer and dense head are
            taken as they are, and only the speller is trained, with the names of ``index``.
    """

    trunk: str | None = None


class FlagshipModule(NamedModule):
    """Items enter as id + content; states leave through a dense and a depth head."""

    def __init__(
        self, vectors: NDArray[np.float32], index: ItemIndex, settings: FlagshipSettings
    ) -> None:
        super().__init__(index, settings)
        self.noise = Noise()
        width = settings.width
        self.register_buffer("given", None, persistent=False)
        self.register_buffer("answers", None, persistent=False)
        self.ids = nn.Parameter(torch.randn(self.n_items + 1, width) * 0.02)
        self.register_buffer("content", _with_padding(torch.from_numpy(vectors)))
        self.project = nn.Linear(vectors.shape[1], width, bias=False)
        nn.init.normal_(self.project.weight, std=0.02)
        self.encoder = SequenceEncoder(
            width,
            settings.blocks,
            settings.heads,
            settings.length,
            settings.dropout,
            settings.input_dropout,
            self.noise,
        )
        self.teacher = NameTeacher(index.trie)
        self.add_speller(index)

    # The speller chases a moving ranker: at the trunk's own rate it is undertrained at the end.
    rates: ClassVar[dict[str, float]] = {"depth": 2.5, "enter": 2.5}
    content: Tensor
    given: Tensor | None  # the item vectors, and the dense head's, of a trunk that stays as it is
    answers: Tensor | None

    def table(self) -> Tensor:
        """float32[n_items + 1, d]; made once where the trunk is given."""
        if self.given is not None:
            return self.given
        with autocast(self.content.device.type):
            content = self.project(self.content)
        return self.ids + content

    @torch.no_grad()
    def freeze(self) -> None:
        """Leave everything but the speller as it is."""
        for key, value in self.named_parameters():
            value.requires_grad_(key.split(".")[0] in _SPELLER)
        table = self.table()
        _, items = self.query(table[:1], table)
        self.given = table
        self.longest = float(items.norm(dim=1).max())
        self.answers = items.to(matrix_dtype(table.device.type)).T.contiguous()

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""
        out: Tensor = self.encoder(vectors)
        return out

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Dense cross-entropy, plus that of the spelling with the dense head's answers."""
        uniform = self.noise.uniform(len(targets)).to(states.device)
        taught: list[tuple[Tensor, list[Tensor]]] = []
        query, items = self.query(states, table)
        dense = states.new_zeros(())
        if self.answers is not None:
            query = query.to(self.answers.dtype)
            largest = float(query.norm(dim=1).max()) * self.longest
            for rows, mass, _ in masses(query, self.answers, largest):
                taught.append(self.teacher(mass, uniform[rows]))
        else:
            dense = full_softmax(
                query,
                items,
                targets,
                lambda rows, mass: taught.append(self.teacher(mass, uniform[rows])),
            )
        drawn = torch.cat([items for items, _ in taught])
        counts = (targets >= 0)[:, None]
        lessons = [
            torch.cat(level) * counts for level in zip(*(each for _, each in taught), strict=True)
        ]
        with autocast(states.device.type):
            spelling = self.depth.loss(self.enter(states.detach()), self.codes[drawn], lessons)
        return dense + spelling


def _with_padding(vectors: Tensor) -> Tensor:
    return torch.cat([vectors.float(), vectors.new_zeros(1, vectors.shape[1])])


_SPELLER = ("depth", "enter")  # the parts of a module that its trunk can do without


def _take_trunk(module: FlagshipModule, folder: str, name: str) -> None:
    """Copy and freeze everything but the speller.

    Raises:
        OnomaError: no such run, or a trunk of another shape or another catalogue.
    """
    _, arrays = read_model(Path(folder), name)
    given = {key.replace("/", "."): torch.from_numpy(value) for key, value in arrays.items()}
    for key, value in [*module.named_parameters(), ("content", module.content)]:
        if key.split(".")[0] in _SPELLER:
            continue
        if key not in given or given[key].shape != value.shape:
            raise OnomaError(
                f"the trunk has no {key} of shape {tuple(value.shape)}",
                where=folder,
                fix="Use the data and the sizes that the trunk was fitted with",
            )
        value.data.copy_(given[key])
    module.freeze()


_NEIGHBOURS = 10
_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3)  # of the walk's lift, chosen on validation


def _nearest(new: Tensor, known: Tensor) -> Tensor:
    """int64[m, c]: the items nearest to each of the new ones, -1 for one without content.

    Args:
        new: float32[m, dim] content vectors, unit or zero rows.
        known: float32[n, dim].
    """
    nearest = (new @ known.T).topk(min(_NEIGHBOURS, len(known)), dim=1).indices
    return nearest.masked_fill(~new.any(dim=1, keepdim=True), -1)


def _like(nearest: Tensor, values: Tensor) -> Tensor:
    """float32[m, w]: the mean of ``values`` over the nearest items, of all where there are none.

    A new item has no interactions to learn an id vector from. Zero would put it above every item
    that training pushed down for lack of interactions; what its like learnt is the best guess.
    """
    means = values[nearest.clamp(min=0)].mean(dim=1)
    return torch.where(nearest[:, :1] >= 0, means, values.mean(dim=0))


class Flagship(NamedRecommender):
    """Names, a causal transformer over items, and two heads on one state.

    The dense head is a softmax over the catalogue at every position. The depth decoder spells the
    name of the next item code by code under the trie; it learns what the dense head answers, so
    that the two agree. What a transformer of this size cannot hold is which item exactly followed
    which: a :class:`Walk` over the training steps adds its lift to the dense head's logits, at a
    weight chosen on validation once the transformer is trained.

    Modes:
        rank: dense head and walk over the whole catalogue.
        generate: names spelled under the trie, nothing else.
        generate_then_rank: the beam proposes, dense head and walk order; where candidates are
            named, they are the proposals.
    """

    name = "flagship"
    modes = ("rank", "generate", "generate_then_rank")
    walk: Walk | None = None
    weight: float = 0.0

    settings_type = FlagshipSettings
    settings: FlagshipSettings
    module: FlagshipModule

    def _build(self, split: Split) -> ItemSequenceModule:
        module = super()._build(split)
        if self.settings.trunk is not None:
            assert isinstance(module, FlagshipModule)
            _take_trunk(module, self.settings.trunk, self.name)
        return module

    def fit(self, split: Split) -> Self:
        """Train the transformer, then count the steps and choose their weight."""
        self.walk = None
        super().fit(split)
        began = time.monotonic()
        self.walk = Walk.of(split.train, split.dataset.n_items)

        def weigh(option: dict[str, Any]) -> Recommender:
            self.weight = option["weight"]
            return self

        self.training["walk"] = choose(grid(weight=_WEIGHTS), weigh, split.valid).describe()
        self.seconds["walk"] = time.monotonic() - began
        return self

    def lift(self, requests: Requests) -> sp.csr_array | None:
        """float32[n, n_items]: the weighted lift of the walk."""
        if self.walk is None or not self.weight:
            return None
        found = self.walk.lift(requests.history)
        found.data *= np.float32(self.weight)
        return found

    def aside(self, history: Ragged, targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """See :class:`onoma.recommenders.inputs.Aside`."""
        assert self.walk is not None
        return np.float32(self.weight) * self.walk.parts(history, targets)

    def _module(self, vectors: NDArray[np.float32]) -> NamedModule:
        assert self.index is not None
        return FlagshipModule(vectors, self.index, self.settings)

    def content(self) -> tuple[Any, NDArray[np.float32]]:
        """The encoder's description and float32[n_items, dim]."""
        return self.settings.encoder, self.module.content[:-1].cpu().numpy()

    @torch.no_grad()
    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        """Content as the encoder makes it; the id vector is that of the nearest items' mean."""
        module = self.module
        known, base = module.content[:-1], catalogue.height
        new = self._encode_new(self.settings.encoder, catalogue, items, known.shape[1])
        content = torch.from_numpy(new).to(known)
        # Earlier new items learnt nothing, so that the order in which they come does not count.
        nearest = _nearest(content, known[:base])
        ids = _like(nearest, module.ids[:base])
        with autocast(content.device.type):
            projected = module.project(content)
        more = self._grown(
            ids + projected,
            {
                "ids": torch.cat([module.ids[:-1], ids, module.ids[-1:]]),
                "content": torch.cat([known, content, module.content[-1:]]),
                **module.more_names(codes),
            },
        )
        assert self.walk is not None
        more.walk = self.walk.extended(nearest.cpu().numpy())
        return more

    def save(self, folder: str | Path) -> None:
        """Write weights, settings, the index and the walk."""
        assert self.walk is not None
        super().save(folder)
        settings = {"weight": self.weight}
        save_model(Path(folder) / "walk", "walk", settings, {"table": self.walk.table})

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> ItemSequenceModule:
        settings, arrays = load_model(folder / "walk", "walk", dataset)
        self.walk, self.weight = Walk(arrays["table"]), float(settings["weight"])
        return super()._rebuild(folder, dataset, weights)

    @property
    def judged_in(self) -> str:
        """Rank mode, or generate where the ranking half is given."""
        return "rank" if self.settings.trunk is None else "generate"

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if requests.candidates is not None and mode == "generate":
            among = torch.from_numpy(requests.candidates.astype(np.int64))
            with torch.no_grad():
                scores = self.every_name(self.last_states(requests.history))
            scores = scores.gather(1, among.clamp(min=0))
            return top_k(scores, k, forbidden=requests.forbidden(), items=among)
        if requests.candidates is not None or mode == "rank":
            return super()._recommend(requests, k, mode)
        states, items, scores = self.spelled(requests, k)
        if mode == "generate":
            return self.join_unseen(items, scores, requests, k)
        scores = self._lifted(states, requests).gather(1, items.clamp(min=0))
        return top_k(scores, k, forbidden=requests.forbidden(), items=items)
