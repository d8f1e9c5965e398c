"""TIGER's weights as a T5 of Hugging Face transformers."""

from __future__ import annotations

from typing import Any

import torch

from onoma.errors import OnomaError
from onoma.recommenders.generative.tiger import Tiger


def as_t5(model: Tiger) -> Any:
    """A ``T5ForConditionalGeneration`` that computes what a fitted TIGER computes.

    Its vocabulary is the decoder's rows (``module.rows`` for items; the last two begin and end a
    name), then the users' tokens. Its logits are over all of it; ours are the slice of a level.

    Raises:
        OnomaError: transformers is not installed.
    """
    try:
        from transformers import T5Config, T5ForConditionalGeneration
    except ImportError as error:
        raise OnomaError("transformers is not installed", fix='pip install "onoma[llm]"') from error

    settings = model.settings
    module: Any = model.module
    decoder = module.decoder
    table = torch.cat([decoder.vocabulary, module.users]).detach()
    config = T5Config(
        vocab_size=len(table), d_model=settings.width, d_kv=settings.head_width,
        d_ff=settings.inner, num_layers=settings.layers, num_heads=settings.heads,
        dropout_rate=0.0, feed_forward_proj="relu", pad_token_id=decoder.offsets[-1] + 1,
        decoder_start_token_id=decoder.offsets[-1], eos_token_id=decoder.offsets[-1] + 1,
    )  # fmt: skip
    peer = T5ForConditionalGeneration(config).eval()
    weights: dict[str, torch.Tensor] = {"shared.weight": table}
    for side, ours in (("encoder", module.encoder), ("decoder", decoder)):
        weights[f"{side}.final_layer_norm.weight"] = ours.norm.weight
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights[first] = ours.bias.weight
        for number, block in enumerate(ours.blocks):
            parts = [("SelfAttention", block.attention, block.before_attention)]
            if side == "decoder":
                parts.append(("EncDecAttention", block.read, block.before_read))
            for layer, (name, attention, norm) in enumerate(parts):
                place = f"{side}.block.{number}.layer.{layer}"
                for letter, part in zip("qkv", attention.qkv.chunk(3), strict=True):
                    weights[f"{place}.{name}.{letter}.weight"] = part
                weights[f"{place}.{name}.o.weight"] = attention.out.weight
                weights[f"{place}.layer_norm.weight"] = norm.weight
            place = f"{side}.block.{number}.layer.{len(parts)}"
            weights[f"{place}.DenseReluDense.wi.weight"] = block.feed.up
            weights[f"{place}.DenseReluDense.wo.weight"] = block.feed.down
            weights[f"{place}.layer_norm.weight"] = block.before_feed.weight
    missing, extra = peer.load_state_dict({k: v.detach() for k, v in weights.items()}, strict=False)
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    assert set(missing) <= tied and not extra, (missing, extra)
    return peer
