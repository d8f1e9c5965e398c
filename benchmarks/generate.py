"""Beam decoding of TIGER against the same weights through Hugging Face ``generate``.

    python benchmarks/generate.py --run runs/tiger-amazon-beauty-2014 --data DIR

Ours decodes all test users of the data; Hugging Face decodes a sample of them with a KV cache and
``prefix_allowed_tokens_fn``, in the fastest of two precisions and two batch sizes. Time is the
process's own, per user, encoder included: on one thread it is the time on an idle machine, whatever
else runs. The beam is compared with the exhaustive ranking of all names (``--oracle`` users, in
float32), and every name said is looked up in the catalogue. ``generate`` normalises over all tokens
where our model knows only those of a level, so its lists, whose agreement is printed, are those of
another distribution.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from onoma.dataset import Ragged, split
from onoma.dataset.load import load
from onoma.neural.beam import beam_search, exhaustive
from onoma.neural.device import autocast
from onoma.recommenders.base import Requests
from onoma.recommenders.generative.tiger import Tiger
from onoma.recommenders.generative.tiger_t5 import as_t5


class Peer:
    """``generate`` with the usual dictionary of prefixes."""

    def __init__(self, model: Tiger) -> None:
        self.model, self.module, self.t5 = model, model.module, as_t5(model)
        self.depth = model.index.depth
        self.names = self.module.rows[:-1].tolist()
        children: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for name in self.names:
            for level, token in enumerate(name):
                children[tuple(name[:level])].add(token)
        self.allowed = {prefix: sorted(codes) for prefix, codes in children.items()}
        self.item = {tuple(name): item for item, name in enumerate(self.names)}

    def follow(self, _: int, said: torch.Tensor) -> list[int]:
        return self.allowed.get(tuple(said.tolist()[1:]), [self.names[0][0]])

    def tokens(self, history: Ragged, users: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        short = history.last(self.model.settings.length)
        items = torch.from_numpy(short.padded(self.module.n_items))
        first = self.module.decoder.offsets[-1] + 2
        who = first + self.module.token[torch.from_numpy(users.astype(np.int64))]
        tokens = torch.cat([who[:, None], self.module.rows[items].flatten(1)], dim=1)
        lengths = 1 + torch.from_numpy(short.lengths) * self.depth
        return tokens, (torch.arange(tokens.shape[1]) < lengths[:, None]).long()

    def run(self, asked: Requests, beam: int, batch: int) -> list[list[int]]:
        """The items said, best first; -1 for names outside the catalogue."""
        order = np.argsort(asked.history.lengths, kind="stable")  # little padding, for both
        answers: list[list[int]] = [[] for _ in order]
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            tokens, mask = self.tokens(asked.history.take(rows), asked.users[rows])
            said = self.t5.generate(
                input_ids=tokens, attention_mask=mask, num_beams=beam, num_return_sequences=beam,
                max_new_tokens=self.depth, min_new_tokens=self.depth, do_sample=False,
                length_penalty=0.0, prefix_allowed_tokens_fn=self.follow, early_stopping=True,
            )[:, 1 : 1 + self.depth]  # fmt: skip
            found = [self.item.get(tuple(name), -1) for name in said.tolist()]
            for number, row in enumerate(rows):
                answers[row] = found[number * beam : (number + 1) * beam]
        return answers


@torch.no_grad()
def ours(model: Tiger, asked: Requests, beam: int) -> torch.Tensor:
    """int64[n, beam] items, best first."""
    order = np.argsort(asked.history.lengths, kind="stable")
    out = torch.empty(len(order), beam, dtype=torch.int64)
    with autocast("cpu"):
        for start in range(0, len(order), 1024):
            rows = order[start : start + 1024]
            context = model.encode(asked.history.take(rows), asked.users[rows])
            out[torch.from_numpy(rows)] = beam_search(
                model.module.decoder, context, model.index.trie, beam
            )[0]
    return out


@torch.no_grad()
def agreement(model: Tiger, asked: Requests, beam: int) -> dict[str, float]:
    """Share of users whose ten best names, in order, are those of the exhaustive ranking."""
    decoder, trie = model.module.decoder, model.index.trie
    same = alike = 0
    for row in range(len(asked)):
        one = asked.slice(row, row + 1)
        context = model.encode(one.history, one.users)
        found = beam_search(decoder, context, trie, beam)[0][0, :10]
        scores = exhaustive(decoder, context, trie)[0]
        best = torch.from_numpy(np.lexsort((np.arange(len(scores)), -scores.numpy()))[:10].copy())
        same += bool((found == best).all())
        alike += bool((found.sort().values == best.sort().values).all())
    return {"same_list": same / len(asked), "same_set": alike / len(asked)}


def some(asked: Requests, n: int) -> Requests:
    rows = np.linspace(0, len(asked) - 1, min(n, len(asked))).astype(np.int64)
    return Requests(asked.history.take(rows), asked.users[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="a run directory of the recipe tiger")
    parser.add_argument("--data", required=True, help="the data it was fitted on")
    parser.add_argument("--beam", type=int, default=50)
    parser.add_argument("--users", type=int, default=0, help="users that we decode; 0: all")
    parser.add_argument("--sample", type=int, default=64, help="users decoded by Hugging Face")
    parser.add_argument("--oracle", type=int, default=200, help="users ranked exhaustively")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args()

    parts = split(load(args.data))
    model = Tiger.load(args.run, parts.dataset)
    asked = Requests.of(parts.test)
    if args.users:
        asked = some(asked, args.users)
    ours(model, some(asked, 64), args.beam)
    start = time.process_time()
    items = ours(model, asked, args.beam)
    mine = (time.process_time() - start) / len(asked)
    answer: dict[str, Any] = {
        "users": len(asked), "beam": args.beam, "threads": torch.get_num_threads(),
        "ms_user": mine * 1e3, "seconds_all_users": mine * len(asked),
        "invalid": int((items < 0).sum()),
    }  # fmt: skip

    peer, sample = Peer(model), some(asked, args.sample)
    times: dict[str, float] = {}
    for label, precision in (("float32", nullcontext), ("autocast", lambda: autocast("cpu"))):
        for batch in (16, 64):
            with precision():
                peer.run(some(asked, 2), args.beam, batch)
                start = time.process_time()
                said = peer.run(sample, args.beam, batch)
                seconds = (time.process_time() - start) / len(sample)
            times[f"{label}, {batch} users a batch"] = seconds
            if label == "float32":
                theirs = said
    best = min(times, key=lambda key: times[key])
    # The same users in the same minute, so that both are measured on the same machine load.
    start = time.process_time()
    again = ours(model, sample, args.beam)
    alone = (time.process_time() - start) / len(sample)
    pairs = zip(again, theirs, strict=True)
    answer |= {
        "ms_user_sample": alone * 1e3,
        "ms_hugging_face": times[best] * 1e3, "hugging_face_best": best,
        "times_faster": times[best] / alone,
        "top10_shared_with_generate": float(
            np.mean([len(set(a[:10].tolist()) & set(b[:10])) / 10 for a, b in pairs])
        ),
    }  # fmt: skip
    answer["oracle_users"] = args.oracle
    for width in (args.beam, 200):
        for key, value in agreement(model, some(asked, args.oracle), width).items():
            answer[f"{key}_beam_{width}"] = value
    if args.json:
        print(json.dumps(answer))
        return
    for key, value in answer.items():
        print(f"{key:>28}  {value:,.4g}" if isinstance(value, float) else f"{key:>28}  {value}")


if __name__ == "__main__":
    main()
