"""The tests' language model as a GGUF file: the same weights, for llama.cpp."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def tiny_gguf(folder: Path) -> Path:
    """Write ``tiny.gguf`` beside a folder of the tiny model; float32, nothing rounded."""
    from gguf import GGUFWriter
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text("utf-8"))
    spelled = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    template = (folder / "chat_template.jinja").read_text("utf-8")
    heads, pairs = config["num_attention_heads"], config["num_key_value_heads"]
    out = GGUFWriter(folder.parent / "tiny.gguf", "llama")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(pairs)
    out.add_rope_dimension_count(config["hidden_size"] // heads)
    out.add_rope_freq_base(config.get("rope_parameters", config).get("rope_theta", 10_000.0))
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_vocab_size(config["vocab_size"])
    special = {token["id"] for token in spelled["added_tokens"]}
    vocabulary = sorted(spelled["model"]["vocab"], key=spelled["model"]["vocab"].get)
    assert len(vocabulary) == config["vocab_size"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(vocabulary)
    out.add_token_types([3 if i in special else 1 for i in range(len(vocabulary))])
    merges = spelled["model"]["merges"]
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    out.add_bos_token_id(config["bos_token_id"])
    out.add_eos_token_id(config["eos_token_id"])
    out.add_add_bos_token(False)
    out.add_chat_template(template)
    weights = load_file(folder / "model.safetensors")
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    parts = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in parts.items():
            names[f"model.layers.{layer}.{theirs}.weight"] = f"blk.{layer}.{ours}.weight"
    for name, ours in names.items():
        value = weights[name]
        if ours.endswith(("attn_q.weight", "attn_k.weight")):
            value = _turned(value, heads if "attn_q" in ours else pairs)
        out.add_tensor(ours, value)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return folder.parent / "tiny.gguf"


def _turned(value: Any, heads: int) -> Any:
    """Rows as llama.cpp turns them: neighbours in pairs, where transformers pairs the halves."""
    rows, columns = value.shape
    return value.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(value.shape)
