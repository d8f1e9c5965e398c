"""Text to tokens and back: a vocabulary learnt from the data or that of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.files import replacing
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BLANKS = 32  # sentinels that a span may be masked by
_PAD, _END, _BEGIN = "<pad>", "</s>", "<s>"
_NUMBERS = 1000


class Vocabulary:
    """A tokenizer and room for new tokens behind its own.

    Args:
        tokenizer: of the ``tokenizers`` library.
        base: id of the first new token; at least the tokenizer's size.
        pad: id of padding.
        end: id of the end of a text.
    """

    def __init__(self, tokenizer: Tokenizer, base: int, pad: int, end: int) -> None:
        self.tokenizer, self.base, self.pad, self.end = tokenizer, base, pad, end

    @classmethod
    def learnt(cls, texts: Iterable[str], size: int) -> Vocabulary:
        """Byte-pair encoding of the texts (Sennrich et al., ACL 2016) over bytes.

        Every byte is a token, so no text is out of reach. Numbers below a thousand are among the
        texts, so longer ones are cut in pieces of two or three digits whatever the texts say.

        Args:
            texts: of training.
            size: tokens, special ones included.

        Raises:
            OnomaError: the ``tokenizers`` package is missing.
        """
        kit = library()
        tokenizer = kit.Tokenizer(kit.models.BPE())
        tokenizer.pre_tokenizer = kit.pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = kit.decoders.ByteLevel()
        special = [_PAD, _END, _BEGIN, *(f"<extra_id_{n}>" for n in range(BLANKS))]
        trainer = kit.trainers.BpeTrainer(
            vocab_size=size + len(special),
            special_tokens=special,
            initial_alphabet=kit.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        numbers = [mark.join(map(str, range(_NUMBERS))) for mark in " _" for _ in range(2)]
        tokenizer.train_from_iterator([*texts, *numbers], trainer)
        return cls(tokenizer, tokenizer.get_vocab_size(), 0, 1)

    @classmethod
    def of_checkpoint(cls, folder: str | Path, size: int) -> Vocabulary:
        """The tokenizer of a transformers folder; ``size`` is that of its model's table.

        Raises:
            OnomaError: no tokenizer there, or none without an end of text.
        """
        from transformers import AutoTokenizer

        try:
            kit = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            tokenizer = kit.backend_tokenizer
        except (OSError, ValueError, AttributeError) as error:
            raise OnomaError(f"no tokenizer ({error})", where=str(folder)) from error
        if kit.eos_token_id is None:
            raise OnomaError("the tokenizer has no end of text", where=str(folder))
        pad = kit.eos_token_id if kit.pad_token_id is None else kit.pad_token_id
        return cls(tokenizer, max(size, len(kit)), pad, kit.eos_token_id)

    def encode(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Token ids and the word that each belongs to, both int32[l], words counted from 0."""
        return self.joined([text], "")[:2]

    def joined(
        self, texts: Sequence[str], between: str
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], Callable[[], NDArray[np.int64]]]:
        """As :meth:`encode`, of texts one after the other.

        Returns:
            Token ids; the word of each; and what tells int64[m], the token with which each text
            begins.
        """
        found = self.tokenizer.encode(between.join(texts), add_special_tokens=False)
        words = [0 if word is None else word for word in found.word_ids]

        def begins() -> NDArray[np.int64]:
            # Behind the mark between two texts: a token may hold no more than the blank there.
            ends = np.cumsum([len(text) + len(between) for text in texts])[:-1]
            marks = ends - (len(between) - len(between.rstrip()) + 1)
            out = np.zeros(len(texts), dtype=np.int64)
            for place, mark in enumerate(marks.tolist(), start=1):
                holds = found.char_to_token(mark)
                out[place] = out[place - 1] if holds is None else holds + 1
            return out

        return np.array(found.ids, dtype=np.int32), np.array(words, dtype=np.int32), begins

    def encode_all(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The token ids of each text."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(each.ids, dtype=np.int32) for each in found]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of rows of token ids, each up to its first end; new tokens say nothing."""
        cut = []
        for row in rows:
            ids = [int(token) for token in row]
            ids = ids[: ids.index(self.end)] if self.end in ids else ids
            cut.append([token for token in ids if token < self.base and token != self.pad])
        texts: list[str] = self.tokenizer.decode_batch(cut)
        return [text.strip() for text in texts]

    @cached_property
    def blanks(self) -> list[int]:
        """Ids of the sentinels, as many as the tokenizer has up to :data:`BLANKS`."""
        found = (self.tokenizer.token_to_id(f"<extra_id_{n}>") for n in range(BLANKS))
        return [token for token in found if token is not None]

    def describe(self) -> dict[str, int]:
        """What :meth:`load` needs beside the file."""
        return {"base": self.base, "pad": self.pad, "end": self.end}

    def save(self, path: Path) -> None:
        """Write the tokenizer's own JSON file."""
        with replacing(path) as beside:
            beside.write_text(self.tokenizer.to_str(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, about: dict[str, Any]) -> Vocabulary:
        """Read what :meth:`save` and :meth:`describe` gave.

        Raises:
            OnomaError: the file is missing or damaged.
        """
        kit = library()
        try:
            tokenizer = kit.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises Exception itself
            raise OnomaError(
                f"cannot read the tokenizer ({error})",
                where=str(path),
                fix="Fit the model again with onoma run",
            ) from error
        return cls(tokenizer, int(about["base"]), int(about["pad"]), int(about["end"]))


def library() -> Any:
    """The ``tokenizers`` module.

    Raises:
        OnomaError: it is not installed.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise OnomaError(
            "text models need the transformers library", fix="pip install 'onoma[llm]'"
        ) from error
    return tokenizers
