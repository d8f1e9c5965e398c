"""Beam decoding of names against Hugging Face ``generate``, and the trie's share of a step.

    python benchmarks/beam.py

Both read histories of eight items (Beauty's mean) and spell names of a catalogue of Beauty's
size (12,101 items, 22,363 users) at beam 50, with untrained models of equal width, depth and
names. Hugging Face runs ``generate`` on a T5 with a KV cache and ``prefix_allowed_tokens_fn``, on
a sample of users, in the fastest of two precisions and two batch sizes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onoma.indexing import ItemIndex, build
from onoma.indexing.trie import Level
from onoma.neural import beam as beams
from onoma.neural.blocks import SequenceEncoder
from onoma.neural.depth import DepthDecoder
from onoma.neural.device import autocast
from onoma.neural.noise import Noise

HISTORY = 8


def catalogue(items: int, seed: int = 0) -> ItemIndex:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((500, 64))
    vectors = centres[rng.integers(0, 500, items)] + 0.6 * rng.standard_normal((items, 64))
    return build("rqkmeans", iterations=5).name_vectors(vectors.astype(np.float32))


class Clock:
    """Seconds spent inside some functions, outermost calls only."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, name: str, label: str) -> Callable[[], None]:
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            answer = inner(*args, **kwargs)
            self.spent[label] += time.perf_counter() - start
            return answer

        setattr(owner, name, timed)
        return lambda: setattr(owner, name, inner)


def shares(model: DepthDecoder, context: Tensor, index: ItemIndex, beam: int) -> dict[str, float]:
    """Part of the decoding time by what it does; median of five runs."""
    clock = Clock()
    undo = [clock.watch(Level, f, "trie") for f in ("mask_", "follow", "children_of")]
    undo += [clock.watch(DepthDecoder, f, "model") for f in ("step", "reorder")]
    undo += [clock.watch(beams, "largest", "top-k")]
    runs: dict[str, list[float]] = defaultdict(list)
    for _ in range(5):
        clock.spent.clear()
        start = time.perf_counter()
        beams.beam_search(model, context, index.trie, beam)
        total = time.perf_counter() - start
        for label, seconds in clock.spent.items():
            runs[label].append(seconds / total)
    for put_back in undo:
        put_back()
    return {label: float(np.median(parts)) for label, parts in runs.items()}


class Ours(nn.Module):
    """Two blocks over the items of a history, then the depth decoder."""

    def __init__(self, index: ItemIndex, width: int, layers: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(index.codes).long())
        self.depth = DepthDecoder(index.sizes, width, layers)
        self.encoder = SequenceEncoder(width, layers, 4, HISTORY, 0.0, 0.0, Noise())

    def forward(self, histories: Tensor) -> Tensor:
        """int64[n, HISTORY] items to float[n, width] states."""
        codes = self.codes[histories]
        tables = self.depth.tables
        items = sum(table(codes[..., level]) for level, table in enumerate(tables))
        return self.encoder(items)[:, -1]


def hugging_face(index: ItemIndex, width: int, layers: int) -> Any:
    """A T5 of the same width, depth and size; one token a (level, code), the form of TIGER."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=sum(index.sizes) + 2, d_model=width, d_kv=width // 4, d_ff=4 * width,
        num_layers=layers, num_decoder_layers=layers, num_heads=4, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, dropout_rate=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return T5ForConditionalGeneration(config).eval()


def hugging_face_seconds(
    model: Any, index: ItemIndex, histories: Tensor, beam: int
) -> tuple[float, str]:
    """A user, with the usual dictionary of prefixes, and the setting that was fastest."""
    shift = 2 + np.concatenate([[0], np.cumsum(index.sizes)[:-1]])
    names = torch.from_numpy(index.codes + shift)
    tokens = names.tolist()
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for name in tokens:
        for level, token in enumerate(name):
            children[tuple(name[:level])].add(token)
    allowed = {prefix: sorted(codes) for prefix, codes in children.items()}

    def follow(_: int, said: Tensor) -> list[int]:
        return allowed.get(tuple(said.tolist()[1:]), [1])

    def run(rows: Tensor) -> Any:
        return model.generate(
            input_ids=names[rows].reshape(len(rows), -1),
            num_beams=beam, num_return_sequences=beam, max_new_tokens=index.depth,
            min_new_tokens=index.depth, do_sample=False, length_penalty=0.0,
            prefix_allowed_tokens_fn=follow, early_stopping=True,
        )  # fmt: skip

    known = {tuple(name) for name in tokens}
    times = {}
    for label, precision in (("float32", nullcontext), ("autocast", lambda: autocast("cpu"))):
        for batch in (16, 64):
            with torch.no_grad(), precision():
                said = run(histories[:2])[:, 1:].tolist()
                assert all(tuple(name[: index.depth]) in known for name in said)
                start = time.perf_counter()
                for first in range(0, len(histories), batch):
                    run(histories[first : first + batch])
                seconds = (time.perf_counter() - start) / len(histories)
                times[f"{label}, {batch} users a batch"] = seconds
    best = min(times, key=lambda key: times[key])
    return times[best], best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--users", type=int, default=22_363)
    parser.add_argument("--beam", type=int, default=50)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=128, help="users decoded by Hugging Face")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args()

    index = catalogue(args.items)
    torch.manual_seed(0)
    model = Ours(index, args.width, args.layers).eval()
    histories = torch.randint(args.items, (args.users, HISTORY))
    some = histories[: min(512, args.users)]
    answer: dict[str, Any] = {"items": args.items, "users": args.users, "beam": args.beam}
    answer["threads"] = torch.get_num_threads()
    answer["parameters"] = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        for label, precision in (("float32", nullcontext), ("autocast", lambda: autocast("cpu"))):
            with precision():
                context = model(some)
                beams.beam_search(model.depth, context, index.trie, args.beam)
                answer[f"share_{label}"] = shares(model.depth, context, index, args.beam)
                start = time.perf_counter()
                beams.beam_search(model.depth, model(some), index.trie, args.beam)
                answer[f"ms_{label}"] = (time.perf_counter() - start) / len(some) * 1e3
        with autocast("cpu"):
            start = time.perf_counter()
            for rows in histories.split(1024):
                beams.beam_search(model.depth, model(rows), index.trie, args.beam)
            answer["seconds_all_users"] = time.perf_counter() - start
    ours = answer["seconds_all_users"] / args.users * 1e3
    answer["ms_user"] = ours
    try:
        peer = hugging_face(index, args.width, args.layers)
    except ImportError:
        print("transformers is not installed: no comparison")
    else:
        answer["parameters_hugging_face"] = sum(p.numel() for p in peer.parameters())
        seconds, how = hugging_face_seconds(peer, index, histories[: args.sample], args.beam)
        answer["ms_hugging_face"], answer["hugging_face_best"] = seconds * 1e3, how
        answer["times_faster"] = seconds * 1e3 / ours
    if args.json:
        print(json.dumps(answer))
        return
    for key, value in answer.items():
        if isinstance(value, dict):
            value = ", ".join(f"{label} {part:.2%}" for label, part in value.items())
        print(f"{key:>24}  {value:,.4g}" if isinstance(value, float) else f"{key:>24}  {value}")


if __name__ == "__main__":
    main()
