"""Long histories: HSTU's training step against a transformer's, and candidates in one pass.

    python benchmarks/long_histories.py --length 2048 --candidates 1000

The transformer has the same width, heads and number of blocks, and PyTorch's own attention. Both
steps are forward and backward over the same vectors, alternately, and the best of each counts.
M-FALCON is compared with the same network asked about one candidate after another, its history's
keys and values computed anew each time (of which ``--alone`` are timed and scaled up).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import nn

from onoma.neural.blocks import SequenceEncoder
from onoma.neural.device import autocast, device
from onoma.neural.hstu import HSTUTrunk
from onoma.neural.noise import Noise


def seconds(work: Callable[[], object]) -> float:
    """One call, the accelerator's queue included."""
    start = time.perf_counter()
    work()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    where, sizes = device(), (asked.width, asked.blocks, asked.heads, asked.length, 0.0, 0.0)
    trunks: dict[str, nn.Module] = {
        "hstu": HSTUTrunk(*sizes, Noise()).to(where),
        "hstu without bias": HSTUTrunk(*sizes, Noise(), relative=False).to(where),
        "transformer": SequenceEncoder(*sizes, Noise()).to(where),
    }
    vectors = torch.randn(asked.rows, asked.length, asked.width, device=where) * 0.02
    gaps = torch.randint(1, 10**6, (asked.rows, asked.length), device=where)
    times = 10**9 + gaps.cumsum(1)

    def step(name: str) -> None:
        trunk = trunks[name]
        trunk.zero_grad()
        with autocast(where.type):
            out = trunk(vectors, times) if name == "hstu" else trunk(vectors)
        out.float().square().mean().backward()

    best: dict[str, float] = {}
    for turn in range(asked.repeats + 1):
        for name in trunks:
            spent = seconds(lambda name=name: step(name))
            if turn:  # the first builds kernels
                best[name] = min(spent, best.get(name, spent))

    hstu = trunks["hstu"].eval()
    assert isinstance(hstu, HSTUTrunk)
    history, when = vectors[:1, :-1], times[:1, :-1]
    ends = torch.tensor([asked.length - 2], device=where)
    candidates = torch.randn(1, asked.candidates, asked.width, device=where) * 0.02
    with torch.no_grad():
        together = min(
            seconds(lambda: hstu.candidates(history, ends, candidates, when))
            for _ in range(asked.repeats)
        )
        states = hstu.candidates(history, ends, candidates, when)
        extended = torch.cat([when, when[:, -1:]], dim=1)

        def alone(place: int) -> torch.Tensor:
            return hstu(torch.cat([history, candidates[:, place : place + 1]], 1), extended)[:, -1]

        one = min(seconds(lambda place=place: alone(place)) for place in range(asked.alone))
        apart = max(
            float((alone(place) - states[:, place]).abs().max()) for place in range(asked.alone)
        )
    print(
        json.dumps(
            {
                **vars(asked),
                "device": str(where),
                "threads": torch.get_num_threads(),
                "step_seconds": {name: round(value, 4) for name, value in best.items()},
                "transformer_over_hstu": round(best["transformer"] / best["hstu"], 3),
                "candidates_seconds": round(together, 4),
                "one_candidate_seconds": round(one, 4),
                "one_by_one_over_one_pass": round(one * asked.candidates / together, 1),
                "largest_difference": apart,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
