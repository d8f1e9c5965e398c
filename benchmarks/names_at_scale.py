"""Two million items: names, trie, health report and beam time, with peak memory.

    python benchmarks/names_at_scale.py --items 2000000

Limits: 10 minutes and 8 GB on 2 cores; beam time a user within 1.5 times that at 20,000 items.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
import torch

from onoma.indexing import ItemIndex, build
from onoma.neural.beam import beam_search
from onoma.neural.depth import DepthDecoder


def clustered(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """float32[n, dim], unit rows around 5,000 centres of uneven size, a hundredth of them zero."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5000, dim), dtype=np.float32)
    share = rng.dirichlet(np.full(len(centres), 0.5))
    belongs = rng.choice(len(centres), n, p=share)
    vectors = np.empty((n, dim), dtype=np.float32)
    for start in range(0, n, 1 << 17):
        part = vectors[start : start + (1 << 17)]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= 0.6
        part += centres[belongs[start : start + len(part)]]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    vectors[rng.random(n) < 0.01] = 0
    return vectors


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def beam_seconds(index: ItemIndex, users: int, beam: int) -> float:
    """Best of three, a user."""
    torch.manual_seed(0)
    model = DepthDecoder(index.sizes, 128, 2).eval()
    with torch.no_grad():
        for head in model.heads:
            head.weight.mul_(5)  # an untrained model's nearly even codes would be too kind a case
    context = torch.randn(users, 128)
    beam_search(model, context[:64], index.trie, beam)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        beam_search(model, context, index.trie, beam)
        times.append(time.perf_counter() - start)
    return min(times) / users


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--few", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--beam", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args()

    vectors = clustered(args.items, args.dim)
    few = build("rqkmeans").name_vectors(clustered(args.few, args.dim))
    started = time.perf_counter()
    index = build("rqkmeans").name_vectors(vectors)
    named = time.perf_counter()
    trie = index.trie
    built = time.perf_counter()
    health = index.health()
    reported = time.perf_counter()
    assert health.after.items == 0
    small, large = (beam_seconds(i, args.users, args.beam) for i in (few, index))
    answer = {
        "items": args.items,
        "dim": args.dim,
        "threads": torch.get_num_threads(),
        "seconds": {
            "names": round(named - started, 1),
            "trie": round(built - named, 1),
            "health": round(reported - built, 1),
            "total": round(reported - started, 1),
        },
        "peak_gb": round(peak_gb(), 2),
        "trie_mb": round(trie.nbytes / 2**20),
        "sizes": list(index.sizes),
        "collisions_before": health.before.share,
        "beam_ms": {str(args.few): small * 1e3, str(args.items): large * 1e3},
        "beam_ratio": round(large / small, 3),
    }
    if args.json:
        print(json.dumps(answer))
        return
    from rich.console import Console

    Console(width=120).print(health.table())
    seconds = answer["seconds"]
    print(f"{args.items:,} items x {args.dim}, {torch.get_num_threads()} threads")
    print(f"names {seconds['names']} s, trie {seconds['trie']} s, health {seconds['health']} s: "
          f"{seconds['total']} s in all (limit 600)")  # fmt: skip
    print(f"peak memory {answer['peak_gb']} GB (limit 8), of it {answer['trie_mb']} MB trie")
    print(
        f"beam {args.beam}: {small * 1e3:.2f} ms a user at {args.few:,} items, "
        f"{large * 1e3:.2f} at {args.items:,}: {answer['beam_ratio']} times (limit 1.5)"
    )


if __name__ == "__main__":
    main()
