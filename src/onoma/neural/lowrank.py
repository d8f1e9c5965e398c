"""Low-rank updates of any module's matrices, which leave the matrices as they are."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onoma.dataset.files import replacing, write_text
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from onoma.neural.frozen import LoraSettings


class LowRank(nn.Module):
    """A matrix and an update of it (Hu et al., LoRA, ICLR 2022).

    Args:
        rows: of the matrix.
        columns: of the matrix.
        rank: of the update, which begins as 0.
        scale: what it counts.
    """

    def __init__(self, rows: int, columns: int, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """float32[rows, columns]."""
        return weight + self.scale * (self.up @ self.down)


def adapt(
    module: nn.Module, rank: int, *, scale: float = 1.0, free: Collection[str] = ()
) -> tuple[int, int]:
    """Freeze a module, give every linear layer an update, and free what is named, in place.

    Args:
        module: whose layers are found by their type.
        rank: of the updates.
        scale: what they count.
        free: parameters that go on learning, by the beginning of their name.

    Returns:
        How many numbers are trained, and how many the module had.

    Raises:
        ValueError: a rank below 1, a name that no parameter has, or updates that are there already.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; it must be at least 1")
    names = [name for name, _ in module.named_parameters()]
    for wanted in free:
        if not any(name.startswith(wanted) for name in names):
            raise ValueError(f"no parameter is called {wanted!r}")
    layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if any(parametrize.is_parametrized(layer) for layer in layers):
        raise ValueError("the module has updates already")
    whole = sum(value.numel() for value in module.parameters())
    for name, value in module.named_parameters():
        value.requires_grad_(any(name.startswith(wanted) for wanted in free))
    for layer in layers:
        rows, columns = layer.weight.shape
        if rank < min(rows, columns):
            update = LowRank(rows, columns, rank, scale).to(layer.weight.device)
            parametrize.register_parametrization(layer, "weight", update)
        else:  # as small as its update
            layer.weight.requires_grad_()
    trained = sum(value.numel() for value in module.parameters() if value.requires_grad)
    return trained, whole


def inject(network: PreTrainedModel, lora: LoraSettings) -> None:
    """Give a language model updates in peft's form, in place; they alone want gradients.

    Raises:
        OnomaError: it has no such matrices, or peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise OnomaError("low-rank updates need peft", fix="pip install 'onoma[llm]'") from error
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
    )
    try:
        inject_adapter_in_model(config, network)
    except ValueError as error:
        raise OnomaError(
            f"the language model has no matrices called {', '.join(lora.targets)}",
            where="recipe",
            fix="Set lora.targets",
        ) from error
    for update in network.parameters():
        if update.requires_grad:  # whatever the model's own dtype, for Adam and for files
            update.data = update.data.float()


def write_adapter(
    folder: str | Path,
    updates: Mapping[str, Tensor],
    lora: LoraSettings,
    source: str,
    about: str,
) -> None:
    """Write low-rank updates as peft reads them, with a model card.

    Args:
        folder: ``adapter_model.safetensors``, ``adapter_config.json`` and ``README.md`` go there;
            made when missing.
        updates: what :func:`inject` added, by the name that it has in the language model.
        lora: their settings.
        source: says which language model they update.
        about: paragraphs of the card: what they were trained on and how well they do.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{name.replace('.default.', '.')}": value.detach().cpu().contiguous()
        for name, value in updates.items()
    }
    with replacing(folder / "adapter_model.safetensors") as beside:
        save_file(tensors, beside)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": source,
        "inference_mode": True,
        "bias": "none",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets),
    }
    write_text(json.dumps(config, indent=2) + "\n", folder / "adapter_config.json")
    count = sum(value.numel() for value in updates.values())
    card = (
        "---\nlibrary_name: peft\ntags: [lora, recommendation]\n---\n\n"
        f"# Low-rank updates of {source}\n\n{about.strip()}\n\n"
        f"{count:,} weights: rank {lora.rank}, alpha {lora.alpha:g}, on "
        f"{', '.join(lora.targets)}. The language model itself is not here; the name above is the "
        "hash of its files.\n\nUse it around that model: in a recipe, "
        "`model: {model: THAT_MODEL, adapter: THIS_FOLDER}`, or with peft's `PeftModel`.\n"
    )
    write_text(card, folder / "README.md")
