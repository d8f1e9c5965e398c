"""A tuned language model that reads items as words and as behaviour, and picks the next (S057)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from onoma.dataset import Dataset, Split
from onoma.encoding.shuffled import deal
from onoma.neural.device import device
from onoma.neural.trainer import Task, Trainer
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.bridged.candidates import pooled
from onoma.recommenders.bridged.soft import SoftRecommender
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.tuned.hybrid import HybridPrompts, RSLLMSettings

_KEPT = 20_000  # questions whose answers are kept
Judged = tuple[int, NDArray[np.int64], NDArray[np.float64], int]


class RSLLM(SoftRecommender):
    """RSLLM (S057): a sequence model's vectors as a second language of a tuned language model.

    "Towards a Unified Paradigm: Integrating Recommendation Systems as a New Language in Large
    Models". A SASRec is fitted first and stays as it is. Then low-rank updates are tuned on
    questions in words: the titles of a history, the target among drawn candidates, the title of the
    target as the answer. Last, behind each title stands a mark and a behaviour token, which a small
    map makes of the SASRec's vector; map, marks and updates are trained together, on the likelihood
    of the answer and on two contrastive losses (:meth:`HybridPrompts.losses`).

    Candidates are ranked by the likelihoods of their titles; without candidates, those that the
    SASRec ranks first are told, and the others follow.

    Modes:
        rank: by likelihood.
        written: the title that is written freely comes first, held to no list; where it is none of
            the list, the answer counts as none and likelihoods rank.
        sequence: the SASRec alone.

    We depart from it where candidates have behaviour tokens too (``marked: history`` leaves them
    out), SASRec's vectors are taken less their mean, titles' states are read in the question
    itself, and a place of each history is drawn anew for each epoch.

    Args:
        train: the schedule of the second stage; ``batch_tokens`` is not used, ``batch`` is.
        seed: of everything random.
        folder: where checkpoints and logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`RSLLMSettings`.
    """

    name = "rsllm"
    modes = ("rank", "written", "sequence")
    settings_type = RSLLMSettings
    settings: RSLLMSettings
    module: HybridPrompts
    reads = frozenset({"history", "candidates"})
    batch = 64

    # fitting

    def _build(self, split: Split) -> HybridPrompts:
        ids = self.item_ids()
        if self.settings.dealt:
            ids = torch.from_numpy(deal(ids.numpy(), self.seed))
        return HybridPrompts(self.source, self.titles(split.dataset), ids, self.settings)

    def item_ids(self) -> Tensor:
        """float32[n_items, d], the SASRec's items less their mean, each of mean square 1.

        Lengths would tell how popular items are.
        """
        vectors = self.sequence.item_vectors()
        assert vectors is not None
        around = torch.from_numpy(vectors - vectors.mean(axis=0))
        return F.normalize(around, dim=1) * around.shape[1] ** 0.5

    def _task(self, split: Split) -> Task:
        from onoma.recommenders.tuned.choosing import Choosing

        first = self.settings.first
        # The second stage does not draw the first one's places again.
        return Choosing(self, split, 0 if first is None else first.epochs)

    def learn(self, split: Split) -> None:
        """Tune on words, then on words and behaviour."""
        from onoma.recommenders.tuned.choosing import Choosing

        torch.manual_seed(self.seed)
        self.forget()
        self.module = module = self._build(split).to(device())
        told: dict[str, Any] = {}
        if self.settings.first is not None:
            module.begin("text")
            beside = self.folder and self.folder / "text"
            trainer = Trainer(self.settings.first, self.seed, beside, self.quiet)
            told = trainer.fit(module, module.noise, Choosing(self, split, 0))
        module.begin(self.settings.told)
        trainer = Trainer(self.train, self.seed, self.folder, self.quiet)
        self.training = trainer.fit(module, module.noise, self._task(split))
        self.seconds["train"] = self.training["seconds"] + told.get("seconds", 0.0)
        self.training |= {"text": told, "history": trainer.history}
        if self.folder is not None:  # kept till now, for a run that is broken off and goes on
            (self.folder / "text" / "checkpoint.safetensors").unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Drop answers, and what was counted of them."""
        self._known: dict[tuple[Sequence[int], Sequence[int]], tuple[NDArray[np.float64], int]] = {}
        self._asked = self._valid = 0

    # answers

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: places counted from the end, the first is n_items."""
        return self._scores(replace(requests, candidates=None), self.modes[0])[0]

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, width], the behaviour tokens; None where the model reads only words."""
        if self.settings.told == "text":
            return None
        with torch.no_grad():
            every = torch.arange(self.module.n_items, device=self.module.ids.device)
            vectors: NDArray[np.float32] = self.module.projected(every).float().cpu().numpy()
        return vectors

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        scores, answered = self._scores(requests, mode)
        forbidden = requests.forbidden()
        if requests.candidates is None:
            found = top_k(scores, k, forbidden=forbidden)
        else:
            items = torch.from_numpy(requests.candidates.astype(np.int64))
            picked = scores.gather(1, items.clamp(min=0))
            found = top_k(picked, k, forbidden=forbidden, items=items)
        return replace(found, answered=answered)

    def _scores(self, requests: Requests, mode: str) -> tuple[Tensor, NDArray[np.bool_] | None]:
        """Scores, and in the mode ``written`` which rows were answered with a title of the list."""
        from scipy.stats import rankdata

        before = self.sequence.score(requests).cpu()
        if mode == "sequence":
            return before, None
        order = torch.argsort(before, dim=1, descending=True, stable=True)
        out = torch.empty_like(before)
        places = -torch.arange(before.shape[1], dtype=before.dtype)
        out.scatter_(1, order, places.expand_as(before))
        answered = np.ones(len(requests), dtype=bool)
        for row, pool, values, written in self.judged(requests, order.numpy()):
            if mode == "written":
                answered[row] = written >= 0
                first = (np.arange(len(pool)) == written) & answered[row]
                values = np.where(first, np.inf, values)
            place = rankdata(-values, method="average") - 1
            out[row, pool] = torch.from_numpy(before.shape[1] - place).to(out.dtype)
        return out, answered if mode == "written" else None

    def judged(
        self, requests: Requests, order: NDArray[np.int64], *, write: bool = True
    ) -> list[Judged]:
        """What the language model says of each request that leaves it anything.

        Args:
            requests: n of them.
            order: int64[n, n_items], the catalogue as the SASRec ranks it.
            write: whether it also writes an answer.

        Returns:
            The row, int64[c] candidates, float64[c] log-likelihoods, and the place of the written
            title among the candidates, -1 where it is none of theirs.
        """
        if self.module.training:
            self.module.eval()
        forbidden = requests.forbidden()
        out: list[Judged] = []
        for row in range(len(requests)):
            history = requests.history[row][-self.settings.history :].tolist()
            pool = pooled(
                requests,
                row,
                forbidden[row],
                history,
                order[row],
                self.settings.shortlist,
                self.seed,
            )
            if not len(pool):
                continue
            key = (tuple(history), tuple(pool.tolist()))
            if key not in self._known:
                if len(self._known) >= _KEPT:
                    self._known = {}
                self._known[key] = said = self.module.weigh(history, key[1], write=write)
                if write and requests.candidates is not None:
                    self._asked, self._valid = self._asked + 1, self._valid + (said[1] >= 0)
            out.append((row, pool, *self._known[key]))
        return out

    def language_report(self) -> dict[str, Any]:
        """Of the different questions with candidates so far: how often the written title is theirs.

        Nothing holds the writing to the candidates. Empty where nothing was asked.
        """
        if not self._asked:
            return {}
        share = self._valid / self._asked
        return {
            "model": self.module.source,
            "written": {"asked": self._asked, "valid_ratio": share},
        }

    # storage

    def save(self, folder: str | Path) -> None:
        """Write what was trained, the updates again as an adapter, and the SASRec beside them."""
        super().save(folder)
        self.sequence.save(Path(folder) / "sequence")
        self.module.save_adapter(
            Path(folder) / "adapter",
            "RSLLM (S057) by Onoma: picks the next title among candidates. What it was tuned to "
            f"read: {self.settings.told}; behaviour tokens are made by the map beside it. "
            f"Seed {self.seed}.",
        )

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> HybridPrompts:
        self.sequence = SASRec.load(folder / "sequence", dataset)
        ids = torch.zeros(dataset.n_items, weights["ids"].shape[1])
        return HybridPrompts(self.source, self.titles(dataset), ids, self.settings)
