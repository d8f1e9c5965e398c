"""The attention of transformers' models, where PyTorch's is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "onoma_float32"  # by this name transformers finds it


def attend_in_float32(network: PreTrainedModel) -> None:
    """Let a model of transformers attend in float32 on a processor, whatever else is in bf16.

    The backward pass of the bf16 kernel takes ten times as long: half of a step of LMRec.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    network.set_attn_implementation(_NAME)


def _attention(
    module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **how: Any
) -> tuple[Tensor, Tensor | None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if q.device.type != "cpu":
        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(module, q, k, v, mask, **how)
        return found
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    with torch.autocast("cpu", enabled=False):
        out, weights = sdpa_attention_forward(module, q.float(), k.float(), v.float(), mask, **how)
    return out.to(v.dtype), weights
