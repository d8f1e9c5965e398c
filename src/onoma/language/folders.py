"""What lies in the folders of models and of adapters."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from onoma.language.base import LanguageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Configuration, tokenizer, chat form, and how an encoder of sentences pools.
_READ = ("*.json", "*.jinja", "*.txt", "*.model", "1_Pooling/config.json")
_WEIGHTS = ("*.safetensors", "*.bin")


def folder_hash(folder: Path) -> str:
    """Sixteen hex digits over what a model folder holds: configuration, tokenizer, weights.

    Of weights the size and the last mebibyte are read: a training step changes all of them.
    """
    digest = hashlib.sha256()
    for pattern in _READ:
        for path in sorted(folder.glob(pattern)):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    for pattern in _WEIGHTS:
        for path in sorted(folder.glob(pattern)):
            digest.update(f"{path.name} {path.stat().st_size}".encode())
            with path.open("rb") as handle:
                handle.seek(-min(path.stat().st_size, 1 << 20), 2)
                digest.update(handle.read())
    return digest.hexdigest()[:16]


def adapter_hash(folder: Path) -> str:
    """Sixteen hex digits over an adapter's configuration and weights.

    Raises:
        LanguageError: the folder holds none.
    """
    digest = hashlib.sha256()
    try:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            digest.update((folder / name).read_bytes())
    except OSError:
        raise LanguageError(
            "no adapter (adapter_config.json and adapter_model.safetensors)", where=str(folder)
        ) from None
    return digest.hexdigest()[:16]


def adapted(network: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A model with the low-rank updates of a folder added to its weights.

    Raises:
        LanguageError: they are damaged or of another model, or peft is not installed.
    """
    try:
        from peft import PeftModel
        from safetensors import safe_open
    except ImportError as error:
        raise LanguageError("an adapter needs peft", fix="pip install 'onoma[llm]'") from error
    try:
        model = PeftModel.from_pretrained(network, str(folder))
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as handle:
            given = set(handle.keys())
        placed = {name.replace(".default", "") for name, _ in model.named_parameters()}
        if stray := sorted(given - placed):  # peft only warns of these
            raise ValueError(f"no place for {stray[0]}")
        merged: PreTrainedModel = model.merge_and_unload()
    except Exception as error:  # peft and safetensors raise errors of many kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LanguageError(f"the adapter does not fit ({first})", where=str(folder)) from error
    return merged


def causal(folder: Path, device: str | None) -> PreTrainedModel:
    """The model of a folder, loaded, without gradients of its own.

    Args:
        folder: of a causal model.
        device: where it computes; None: the accelerator if there is one.

    Raises:
        LanguageError: it cannot be loaded, or torch or transformers is not installed.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError as error:
        raise _missing(folder, error) from error
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    logging.disable_progress_bar()
    try:
        network = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            # Probabilities in bf16 tie by the dozen; an accelerator's memory may need it.
            dtype=torch.float32 if where == "cpu" else "auto",
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LanguageError(f"cannot be loaded ({first})", where=str(folder)) from error
    return network.to(where).eval().requires_grad_(False)


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder.

    Raises:
        LanguageError: it cannot be loaded, or transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise _missing(folder, error) from error
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LanguageError(f"no tokenizer ({first})", where=str(folder)) from error


def _missing(folder: Path, error: ImportError) -> LanguageError:
    return LanguageError(
        f"needs torch and transformers ({error})",
        where=str(folder),
        fix="pip install 'onoma[llm]'",
    )
