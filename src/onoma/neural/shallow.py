"""Fewer layers of a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from onoma.errors import OnomaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def keep_layers(network: PreTrainedModel, layers: int, *, spread: bool = False) -> None:
    """Drop layers for good, in place.

    Args:
        network: a causal model of transformers.
        layers: how many are kept.
        spread: the kept ones are evenly spread over the depth, the first among them; else they are
            the first ones.

    Raises:
        OnomaError: there are fewer.
    """
    body, config = network.base_model, network.config
    depth = len(body.layers)
    if not 1 <= layers <= depth:
        raise OnomaError(f"layers is {layers}, the language model has {depth}", where="recipe")
    kept = [place * depth // layers if spread else place for place in range(layers)]
    body.layers = nn.ModuleList(body.layers[old] for old in kept)
    for place, layer in enumerate(body.layers):
        layer.self_attn.layer_idx = place  # where a cache keeps its keys
    config.num_hidden_layers = layers
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = [kinds[old] for old in kept]
