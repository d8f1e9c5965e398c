"""A hundred titles weighed behind one prompt, beside scoring each whole text from scratch.

    onoma models pull smollm2
    python benchmarks/likelihood.py

The same weights, tokens and threads on all sides; one run, in turns. From scratch is what a loop
over prompts does with transformers: a forward pass of prompt and title a title, and the same in
padded batches of twenty. Prints seconds a request and the largest difference of a log-probability.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.language.pulling import needed
from onoma.language.torch_model import TorchModel

PROMPT = (
    "Somebody who watches many films liked these, the latest last: {}. "
    "They would also like a film that is called"
)


def titles(count: int, seed: int = 0) -> list[str]:
    """Distinct titles of one to five words, many of which begin alike."""
    draw = np.random.default_rng(seed)
    first = ["The", "A", "Return of the", "Night of the", "My", "Last", "Dark", "Little"]
    second = ["Star", "River", "Soldier", "House", "Garden", "Stranger", "Winter", "Machine"]
    third = ["", " of Rome", " Returns", " in Paris", " 2", " at Sea", " and the Fox"]
    found: dict[str, None] = {}
    while len(found) < count:
        words = [pool[int(draw.integers(len(pool)))] for pool in (first, second, third)]
        found[f"{words[0]} {words[1]}{words[2]}"] = None
    return list(found)


def from_scratch(
    model: TorchModel, prompt: str, texts: list[str], batch: int
) -> NDArray[np.float64]:
    """Log-probabilities of the texts after the prompt, every token of everything read again."""
    head = len(model.tokenizer(prompt, add_special_tokens=False).input_ids)
    rows = [model.tokenizer(prompt + t, add_special_tokens=False).input_ids for t in texts]
    out = []
    with torch.inference_mode():
        for begin in range(0, len(rows), batch):
            part = rows[begin : begin + batch]
            longest = max(map(len, part))
            tokens = torch.zeros((len(part), longest), dtype=torch.long)
            known = torch.zeros((len(part), longest), dtype=torch.long)
            for line, row in enumerate(part):
                tokens[line, : len(row)] = torch.tensor(row)
                known[line, : len(row)] = 1
            logits = model.network(tokens, attention_mask=known, use_cache=False).logits
            said = torch.log_softmax(logits[:, head - 1 : -1].float(), dim=-1)
            read = said.gather(2, tokens[:, head:, None])[:, :, 0] * known[:, head:]
            out += read.double().sum(dim=1).tolist()
    return np.array(out)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", help="a transformers folder; default the pulled smollm2")
    parser.add_argument("--titles", type=int, default=100)
    parser.add_argument("--liked", type=int, default=10, help="titles in the prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = TorchModel(Path(options.model) if options.model else needed("smollm2") / "torch")
    texts = [" " + title for title in titles(options.titles)]
    liked = titles(options.titles + options.liked * options.rounds, seed=1)[options.titles :]
    model.logprobs("Hello,", texts[:2])  # loads the weights
    ways = {
        "a tree behind one prefix": 0,
        "each from scratch": 1,
        "from scratch, batches of 20": 20,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    worst = 0.0
    for turn in range(options.rounds):
        mine = liked[turn * options.liked : (turn + 1) * options.liked]
        prompt = PROMPT.format("; ".join(mine))
        found: dict[str, NDArray[np.float64]] = {}
        for way, batch in ways.items():
            began = time.perf_counter()
            if batch == 0:
                found[way] = model.logprobs(prompt, texts).logprobs
            else:
                found[way] = from_scratch(model, prompt, texts, batch)
            seconds[way].append(time.perf_counter() - began)
        for way in ways:
            worst = max(worst, float(np.abs(found[way] - found["each from scratch"]).max()))
    ours = min(seconds["a tree behind one prefix"])
    rows = {way: {"seconds": min(s), "times": min(s) / ours} for way, s in seconds.items()}
    tokens = len(model.tokenizer(prompt).input_ids)
    record = {"titles": len(texts), "prompt_tokens": tokens, "threads": torch.get_num_threads(),
              "largest_difference": worst, "rows": rows}  # fmt: skip
    if options.json:
        print(json.dumps(record, indent=2))
        return
    print(f"{len(texts)} titles behind {tokens} tokens, {torch.get_num_threads()} threads")
    for way, row in rows.items():
        print(f"{way:32} {row['seconds']:8.2f} s {row['times']:6.1f} x")
    print(f"largest difference of a log-probability {worst:.1e}")


if __name__ == "__main__":
    main()
