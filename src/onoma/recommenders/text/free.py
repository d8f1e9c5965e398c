"""Answers in any words: beam search over the whole vocabulary, with no trie."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onoma.neural.beam import Speller


@torch.no_grad()
def free_search(
    speller: Speller, context: Any, end: int, longest: int, beam: int = 1
) -> tuple[Tensor, Tensor]:
    """The most probable texts that a beam of that width finds; greedy where it is 1.

    Args:
        speller: the model.
        context: n questions as the speller begins with them.
        end: the token that ends a text.
        longest: tokens at most.
        beam: texts kept.

    Returns:
        int64[n, beam, longest] tokens, the end included, -1 behind it; float32[n, beam]
        log-probabilities, best first.
    """
    n = len(context)
    state = speller.begin(context)
    scores = torch.zeros(n, 1, device=context.device)
    said = torch.zeros(n, 1, 0, dtype=torch.int64, device=context.device)
    codes = None
    for place in range(longest):
        logits, state = speller.step(state, place, codes)
        logp = torch.log_softmax(logits.float(), dim=-1)
        size = logp.shape[-1]
        if place:
            # A finished text goes on at no cost, in one way.
            done = (said[:, :, -1] < 0) | (said[:, :, -1] == end)
            logp.masked_fill_(done[:, :, None], -torch.inf)
            logp[:, :, end].masked_fill_(done, 0.0)
        total = scores[:, :, None] + logp
        scores, at = total.flatten(1).topk(min(beam, total[0].numel()), dim=1)
        parents, codes = at // size, at % size
        before = said.gather(1, parents[:, :, None].expand(-1, -1, place))
        fresh = codes
        if place:
            ended = (before[:, :, -1] < 0) | (before[:, :, -1] == end)
            fresh = codes.masked_fill(ended, -1)
            if bool((ended | (codes == end)).all()):
                said = torch.cat([before, fresh[:, :, None]], dim=2)
                break
        said = torch.cat([before, fresh[:, :, None]], dim=2)
        if place + 1 < longest:
            state = speller.reorder(state, parents)
    short = longest - said.shape[2]
    return torch.nn.functional.pad(said, (0, short), value=-1), scores
