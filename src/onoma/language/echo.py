"""Echoes: what each token of a text was worth to a model, made here and read elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onoma.language.base import BadAnswer

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel


@dataclass(frozen=True)
class Echo:
    """A text cut as its model reads it.

    Attributes:
        pieces: texts of the tokens; together they are the text. Of a character that takes several
            tokens the last has all of it and those before are empty.
        logprobs: natural logarithms; None for the first token where nothing stands before it.
        then: the likeliest next piece, and its log-probability.
    """

    pieces: list[str]
    logprobs: list[float | None]
    then: tuple[str, float]


def echo(model: TorchModel, text: str) -> Echo:
    """Weigh every token of a text.

    Args:
        model: what weighs.
        text: not empty; taken as it is.

    Raises:
        BadAnswer: the text is longer than the model reads.
    """
    import torch

    tokenizer, network = model.tokenizer, model.network
    cut = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, starts = list(cut.input_ids), [start for start, _ in cut.offset_mapping]
    first = tokenizer.bos_token_id if getattr(tokenizer, "add_bos_token", False) else None
    before = [] if first is None or ids[:1] == [first] else [first]
    if model.context and len(before) + len(ids) > model.context:
        raise BadAnswer(
            "context",
            f"{len(ids)} tokens exceed the context length of {model.context}",
            where=model.identity,
        )
    with torch.inference_mode():
        rows = torch.tensor([before + ids], device=network.device)
        logits = network(input_ids=rows, use_cache=False).logits[0].float()
        logprobs = torch.log_softmax(logits, dim=-1)
        told = logprobs[:-1].gather(1, rows[0, 1:, None])[:, 0].tolist()
        best = int(logprobs[-1].argmax())
    values: list[float | None] = told[len(before) - 1 :] if before else [None, *told]
    # Where the tokenizer drops what it counts as nothing (a space in front), it goes to the first.
    edges = [0, *starts[1:], len(text)]
    pieces = [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    return Echo(pieces, values, (tokenizer.decode([best]), float(logprobs[-1, best])))


def those_of(tokens: Sequence[str], prompt: str, continuation: str) -> list[int] | None:
    """Which tokens of an echoed text are the continuation's; None where it is another text.

    Servers differ in what they count before the text (a token that begins it), so the text is
    looked for in the tokens and the servers' own offsets are not used. A token that the prompt's
    end and the continuation share is the continuation's. What was written after the text is not.
    """
    at = "".join(tokens).find(prompt + continuation)
    if at < 0:
        return None
    begin, end = at + len(prompt), at + len(prompt) + len(continuation)
    rows: list[int] = []
    place, waiting = 0, []
    for row, token in enumerate(tokens):
        # A token without text of its own is the beginning of a character that the next one has.
        waiting.append(row)
        if token:
            if place < end and place + len(token) > begin:
                rows += waiting
            place, waiting = place + len(token), []
    return rows
