"""A causal language model that reads questions and goes on with the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onoma.errors import OnomaError
from onoma.neural.attention import attend_in_float32
from onoma.neural.lowrank import inject
from onoma.neural.noise import GlobalNoise
from onoma.neural.seq2seq import padding
from onoma.recommenders.text.module import TextModule

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from onoma.neural.frozen import LoraSettings

# Architectures whose attention is that of Llama; the speller computes it itself.
KINDS = ("llama", "mistral", "qwen2")


def small_config(size: int, width: int, layers: int, heads: int, inner: int) -> PreTrainedConfig:
    """The configuration of a Llama to train from scratch.

    Raises:
        OnomaError: transformers is not installed, or heads of an odd width.
    """
    try:
        from transformers import LlamaConfig
    except ImportError as error:
        raise OnomaError("LC-Rec needs transformers", fix="pip install 'onoma[llm]'") from error
    if width % (2 * heads):
        raise OnomaError(f"width {width} is no multiple of twice {heads} heads", where="recipe")
    return LlamaConfig(
        vocab_size=size, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=4096,
        tie_word_embeddings=True,
    )  # fmt: skip


def checkpoint_config(folder: str) -> PreTrainedConfig:
    """The configuration of a transformers folder.

    Raises:
        OnomaError: the folder holds none, or that of another kind of model.
    """
    try:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ImportError, OSError, ValueError) as error:
        raise OnomaError(f"no configuration of a model ({error})", where=folder) from error
    if config.model_type not in KINDS:
        raise OnomaError(
            f"a model of type {config.model_type!r}", where=folder, fix=f"Use {', '.join(KINDS)}"
        )
    return config


@dataclass(frozen=True)
class Asked:
    """Questions that a causal model goes on from.

    Attributes:
        tokens: int64[n, l], left aligned.
        lengths: int64[n], tokens in use.
    """

    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def device(self) -> torch.device:
        """Where the tokens lie."""
        return self.tokens.device

    def __getitem__(self, rows: slice | Tensor) -> Asked:
        """Some questions, with no more padding than they need."""
        lengths = self.lengths[rows]
        longest = int(lengths.max()) if len(lengths) else 0
        return Asked(self.tokens[rows, :longest], lengths)


class CausalModule(TextModule):
    """A causal model with a table of its own for new tokens.

    New tokens are read from and answered by that table alone, so they are trained although
    everything else may stay as it is.

    Args:
        config: of the model.
        base: id of the first new token.
        new: new tokens.
        n_items: items that it knows.
        dropout: on what enters.
        checkpoint: a transformers folder whose weights it starts from.
        lora: the low-rank updates that are trained instead of the model's own weights; None
            trains all.

    Raises:
        OnomaError: the checkpoint cannot be read, or peft is not installed.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        base: int,
        new: int,
        n_items: int,
        dropout: float = 0.0,
        checkpoint: str | None = None,
        lora: LoraSettings | None = None,
    ) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        self.noise, self.n_items, self.config, self.base = GlobalNoise(), n_items, config, base
        if checkpoint is None:
            self.lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            try:
                self.lm = AutoModelForCausalLM.from_pretrained(
                    checkpoint, local_files_only=True, dtype=torch.float32
                )
            except (OSError, ValueError) as error:
                raise OnomaError(f"no model ({error})", where=checkpoint) from error
        attend_in_float32(self.lm)
        self.dropout = nn.Dropout(dropout)
        self.count = new
        self.new = nn.Embedding(max(new, 1), config.hidden_size)
        known = self.lm.get_input_embeddings().weight.detach()
        nn.init.normal_(self.new.weight, std=float(known.std()))
        if checkpoint is not None:
            self.new.weight.data += known.mean(dim=0)
        if lora is not None:
            inject(self.lm, lora)
        self.register_buffer("seen", torch.zeros(n_items, dtype=torch.bool))
        self.share()

    def embed(self, tokens: Tensor) -> Tensor:
        """float[..., d] of int64 tokens."""
        fresh = tokens >= self.base
        known = self.lm.get_input_embeddings()(tokens.masked_fill(fresh, 0))
        new = self.new((tokens - self.base).clamp(0, len(self.new.weight) - 1))
        return torch.where(fresh[..., None], new, known)

    def logits(self, states: Tensor) -> Tensor:
        """float[..., base + new] of final states."""
        known = self.lm.get_output_embeddings()(states)
        short = self.base - known.shape[-1]
        if short > 0:  # ids between the model's table and the first new token say nothing
            known = nn.functional.pad(known, (0, short), value=-torch.inf)
        new = nn.functional.linear(states, self.new.weight[: self.count])
        return torch.cat([known[..., : self.base], new], dim=-1)

    def read(self, tokens: Tensor, words: Tensor, lengths: Tensor) -> Asked:
        """The questions; they are read together with the answers."""
        return Asked(tokens, lengths)

    def answers(self, context: Asked, tokens: Tensor) -> Tensor:
        """See :meth:`TextModule.answers`; question and answer pass as one sequence."""
        n, width = tokens.shape
        longest = context.tokens.shape[1]
        whole = nn.functional.pad(context.tokens, (0, width))
        places = context.lengths[:, None] + torch.arange(width, device=tokens.device)
        whole = whole.scatter(1, places, tokens.clamp(min=0))[:, : longest + width - 1]
        # Padding stands behind everything, where a causal model never looks.
        found = self.lm.model(inputs_embeds=self.dropout(self.embed(whole)), use_cache=False)
        at = (places - 1)[:, :, None].expand(-1, -1, found.last_hidden_state.shape[-1])
        return self.logits(found.last_hidden_state.gather(1, at))

    def speller(self) -> CausalSpeller:
        """Says tokens one by one."""
        return CausalSpeller(self)

    def updates(self) -> dict[str, Tensor]:
        """The low-rank updates, by the name that each has in the language model."""
        return {name: p for name, p in self.lm.named_parameters() if ".lora_" in name}

    def describe(self) -> dict[str, Any]:
        """The configuration, JSON values only."""
        about: dict[str, Any] = self.config.to_dict()
        return about


def restored_config(about: dict[str, Any]) -> PreTrainedConfig:
    """The configuration that :meth:`CausalModule.describe` gave."""
    from transformers import AutoConfig

    kind = about.pop("model_type")
    about.pop("transformers_version", None)
    return AutoConfig.for_model(kind, **about)


class CausalSpeller:
    """Says token after token; a :class:`onoma.neural.beam.Speller`.

    A question is read once, and its keys and values serve all beams of the user.

    Args:
        module: the model.
    """

    def __init__(self, module: CausalModule) -> None:
        self.module, self.model = module, module.lm.model

    def begin(self, context: Asked) -> Going:
        """See :class:`onoma.neural.beam.Speller`."""
        found = self.model(inputs_embeds=self.module.embed(context.tokens), use_cache=True)
        last = found.last_hidden_state[
            torch.arange(len(context), device=context.device), context.lengths - 1
        ]
        read = [(layer.keys, layer.values) for layer in found.past_key_values.layers]
        hidden = padding(context.lengths, context.tokens.shape[1])
        first = self.module.logits(last)[:, None]
        return Going(first, read, hidden, context.lengths, [None] * len(read))

    def step(self, state: Going, level: int, codes: Tensor | None) -> tuple[Tensor, Going]:
        """See :class:`onoma.neural.beam.Speller`."""
        if codes is None:
            return state.first, state
        x = self.module.embed(codes)
        places = (state.lengths + level - 1)[:, None]
        cos, sin = (each[:, :, None] for each in self.model.rotary_emb(x, position_ids=places))
        said: list[tuple[Tensor, Tensor] | None] = []
        for layer, read, before in zip(self.model.layers, state.read, state.said, strict=True):
            attention, inner = layer.self_attn, layer.input_layernorm(x)
            queries = _turned(_split(attention, attention.q_proj(inner)), cos, sin)
            keys = _turned(_split(attention, attention.k_proj(inner)), cos, sin)[:, :, :, None]
            values = _split(attention, attention.v_proj(inner))[:, :, :, None]
            if before is not None:
                keys, values = torch.cat([before[0], keys], 3), torch.cat([before[1], values], 3)
            said.append((keys, values))
            mixed = _attend(queries * attention.scaling, read, (keys, values), state.padding)
            x = x + attention.o_proj(mixed.to(x.dtype))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        logits = self.module.logits(self.model.norm(x))
        return logits, Going(state.first, state.read, state.padding, state.lengths, said)

    def reorder(self, state: Going, parents: Tensor) -> Going:
        """See :class:`onoma.neural.beam.Speller`."""
        at = torch.arange(len(parents), device=parents.device)[:, None]
        said = [
            None if pair is None else (pair[0][at, parents], pair[1][at, parents])
            for pair in state.said
        ]
        return Going(state.first, state.read, state.padding, state.lengths, said)


@dataclass
class Going:
    """Where the beams of n users are.

    Attributes:
        first: float[n, 1, vocabulary] logits behind the questions.
        read: a layer's keys and values of the questions, float[n, groups, l, d].
        padding: of those.
        lengths: int64[n] of the questions.
        said: a layer's keys and values of the beams' own tokens, float[n, b, groups, t, d].
    """

    first: Tensor
    read: list[tuple[Tensor, Tensor]]
    padding: Tensor | None
    lengths: Tensor
    said: list[tuple[Tensor, Tensor] | None]


def _split(attention: Any, x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], -1, attention.head_dim)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021) of float[n, b, heads, d]."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def _attend(
    queries: Tensor,
    read: tuple[Tensor, Tensor],
    said: tuple[Tensor, Tensor],
    hidden: Tensor | None,
) -> Tensor:
    """Attention over the question, shared by all beams, and over each beam's own tokens.

    Args:
        queries: float[n, b, heads, d], scaled.
        read: float[n, groups, l, d] each.
        said: float[n, b, groups, t, d] each.
        hidden: float[n, 1, 1, l].

    Returns:
        float[n, b, heads * d].
    """
    n, b, heads, d = queries.shape
    groups, longest = read[0].shape[1], read[0].shape[2]
    each = heads // groups
    q = queries.view(n, b, groups, each, d)
    shared = q.permute(0, 2, 1, 3, 4).reshape(n, groups, b * each, d)
    far = (shared @ read[0].to(q.dtype).transpose(2, 3)).float()
    if hidden is not None:
        far = far + hidden
    far = far.view(n, groups, b, each, longest).transpose(1, 2)
    near = (q @ said[0].to(q.dtype).transpose(3, 4)).float()
    share = torch.cat([far, near], dim=-1).softmax(-1).to(q.dtype)
    far, near = share[..., :longest], share[..., longest:]
    far = far.transpose(1, 2).reshape(n, groups, b * each, longest) @ read[1].to(q.dtype)
    mixed = far.view(n, groups, b, each, d).transpose(1, 2) + near @ said[1].to(q.dtype)
    return mixed.reshape(n, b, heads * d)
