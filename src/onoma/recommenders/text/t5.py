"""T5 through transformers: what it reads, what it answers, and a speller over its decoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onoma.errors import OnomaError
from onoma.neural.noise import GlobalNoise
from onoma.neural.seq2seq import Encoded
from onoma.recommenders.text.module import TextModule

if TYPE_CHECKING:
    from transformers import T5Config

_DERIVED = ("tie_word_embeddings", "dense_act_fn", "is_gated_act", "transformers_version")
WORDS = 512  # words of a question that have a vector of their own


def small_config(
    size: int, width: int, layers: int, heads: int, inner: int, dropout: float
) -> T5Config:
    """The configuration of a T5 to train from scratch; 0 pads and 1 ends.

    Raises:
        OnomaError: transformers is not installed, or the width is no multiple of the heads.
    """
    try:
        from transformers import T5Config
    except ImportError as error:
        raise OnomaError("T5 needs transformers", fix="pip install 'onoma[llm]'") from error
    if width % heads:
        raise OnomaError(f"width {width} is no multiple of {heads} heads", where="recipe")
    return T5Config(
        vocab_size=size, d_model=width, d_kv=width // heads, d_ff=inner, num_layers=layers,
        num_decoder_layers=layers, num_heads=heads, dropout_rate=dropout,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip


class T5Module(TextModule):
    """A T5 whose inputs carry whole-word vectors (Geng et al., P5, RecSys 2022).

    Args:
        config: of the T5.
        n_items: items that it knows.
        whole_words: whether inputs carry the vector of their word.
        checkpoint: a transformers folder whose weights it starts from.

    Raises:
        OnomaError: the checkpoint cannot be read.
    """

    def __init__(
        self,
        config: T5Config,
        n_items: int,
        whole_words: bool = True,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        from transformers import T5ForConditionalGeneration

        self.noise, self.n_items, self.config = GlobalNoise(), n_items, config
        if checkpoint is None:
            self.t5 = T5ForConditionalGeneration(config)
        else:
            try:
                self.t5 = T5ForConditionalGeneration.from_pretrained(
                    checkpoint, local_files_only=True, dtype=torch.float32
                )
            except (OSError, ValueError) as error:
                raise OnomaError(f"no T5 ({error})", where=checkpoint) from error
            self.t5.resize_token_embeddings(config.vocab_size, mean_resizing=True)
        self.words = nn.Embedding(WORDS, config.d_model) if whole_words else None
        if self.words is not None:
            # Silent at first where the model knows how to read, as loud as a token elsewhere.
            nn.init.normal_(self.words.weight, std=0.0 if checkpoint else 1.0)
        self.register_buffer("seen", torch.zeros(n_items, dtype=torch.bool))
        self.share()

    def read(self, tokens: Tensor, words: Tensor, lengths: Tensor) -> Encoded:
        """Encoder states of int64[n, l] tokens and their words; int64[n] are in use."""
        inputs = self.t5.shared(tokens)
        if self.words is not None:
            inputs = inputs + self.words(words.clamp(max=WORDS - 1))
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        states = self.t5.encoder(inputs_embeds=inputs, attention_mask=mask.long())
        return Encoded(states.last_hidden_state, lengths)

    def logits(self, states: Tensor) -> Tensor:
        """float[..., vocabulary] of decoder states."""
        if self.t5.config.scale_decoder_outputs:
            states = states * self.t5.model_dim**-0.5
        out: Tensor = self.t5.lm_head(states)
        return out

    def answers(self, context: Encoded, tokens: Tensor) -> Tensor:
        """float[n, l, vocabulary]: what is said at each place of int64[n, l], true tokens before.

        Negative tokens stand for nothing.
        """
        first = torch.full_like(tokens[:, :1], self.config.decoder_start_token_id)
        before = torch.cat([first, tokens[:, :-1].clamp(min=0)], dim=1)
        longest = context.states.shape[1]
        mask = torch.arange(longest, device=tokens.device) < context.lengths[:, None]
        states = self.t5.decoder(
            input_ids=before,
            encoder_hidden_states=context.states,
            encoder_attention_mask=mask.long(),
            use_cache=False,
        )
        return self.logits(states.last_hidden_state)

    def speller(self) -> T5Speller:
        """Says tokens one by one."""
        return T5Speller(self)

    def describe(self) -> dict[str, Any]:
        """The configuration, JSON values only."""
        about: dict[str, Any] = self.config.to_dict()
        return about | {"scale_decoder_outputs": self.config.scale_decoder_outputs}


class T5Speller:
    """Says token after token from what a T5 read; a :class:`onoma.neural.beam.Speller`.

    Keys and values of the encoder's states are computed once a user and serve all of its beams.

    Args:
        module: the model.
    """

    def __init__(self, module: T5Module) -> None:
        self.module, self.decoder = module, module.t5.decoder

    def begin(self, context: Encoded) -> Spoken:
        """See :class:`onoma.neural.beam.Speller`."""
        read = []
        for block in self.decoder.block:
            cross = block.layer[1].EncDecAttention
            read.append(
                (_heads(cross, cross.k(context.states)), _heads(cross, cross.v(context.states)))
            )
        return Spoken(len(context), read, context.padding(), [None] * len(read))

    def step(self, state: Spoken, level: int, codes: Tensor | None) -> tuple[Tensor, Spoken]:
        """See :class:`onoma.neural.beam.Speller`."""
        where = state.read[0][0].device
        if codes is None:
            start = self.module.config.decoder_start_token_id
            codes = torch.full((state.users, 1), start, device=where)
        x = self.decoder.embed_tokens(codes)
        first = self.decoder.block[0].layer[0].SelfAttention
        bias = first.compute_bias(1, level + 1, device=where, past_seen_tokens=level)[0, :, 0]
        said: list[tuple[Tensor, Tensor] | None] = []
        for block, read, before in zip(self.decoder.block, state.read, state.said, strict=True):
            own, cross = block.layer[0], block.layer[1]
            attention, inner = own.SelfAttention, own.layer_norm(x)
            keys, values = (_beams(attention, f(inner)) for f in (attention.k, attention.v))
            if before is not None:
                keys, values = (
                    torch.cat(pair, dim=3) for pair in zip(before, (keys, values), strict=True)
                )
            said.append((keys, values))
            query = _beams(attention, attention.q(inner))  # [n, b, heads, 1, d]
            seen = (query @ keys.transpose(3, 4) + bias[:, None, :]).float().softmax(-1)
            mixed = seen.to(values.dtype) @ values
            x = x + attention.o(mixed[:, :, :, 0].flatten(2))
            attention = cross.EncDecAttention
            query = _heads(attention, attention.q(cross.layer_norm(x)))  # [n, heads, b, d]
            logits = (query @ read[0].transpose(2, 3)).float()
            if state.padding is not None:
                logits = logits + state.padding
            mixed = logits.softmax(-1).to(read[1].dtype) @ read[1]
            x = x + attention.o(mixed.transpose(1, 2).flatten(2))
            x = block.layer[2](x)
        x = self.decoder.final_layer_norm(x)
        return self.module.logits(x), Spoken(state.users, state.read, state.padding, said)

    def reorder(self, state: Spoken, parents: Tensor) -> Spoken:
        """See :class:`onoma.neural.beam.Speller`."""
        at = torch.arange(len(parents), device=parents.device)[:, None]
        said = [
            None if pair is None else (pair[0][at, parents], pair[1][at, parents])
            for pair in state.said
        ]
        return Spoken(state.users, state.read, state.padding, said)


@dataclass
class Spoken:
    """What the beams of n users said and read.

    Attributes:
        users: n.
        read: a block's keys and values of the encoder's states, float[n, heads, l, d].
        padding: of those.
        said: a block's keys and values of the beams' own tokens, float[n, b, heads, t, d].
    """

    users: int
    read: list[tuple[Tensor, Tensor]]
    padding: Tensor | None
    said: list[tuple[Tensor, Tensor] | None]


def _heads(attention: Any, x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], attention.n_heads, -1).transpose(1, 2)


def _beams(attention: Any, x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], attention.n_heads, 1, -1)


def checkpoint_config(folder: str, size: int | None) -> T5Config:
    """The configuration of a transformers folder, for a vocabulary of a size if one is given.

    Raises:
        OnomaError: the folder holds none, or transformers is not installed.
    """
    try:
        from transformers import T5Config

        config = T5Config.from_pretrained(folder, local_files_only=True)
        kind = json.loads((Path(folder) / "config.json").read_text("utf-8")).get("model_type")
    except (ImportError, OSError, ValueError) as error:
        raise OnomaError(f"no configuration of a T5 ({error})", where=folder) from error
    if kind != "t5":
        raise OnomaError(f"a model of type {kind!r}", where=folder, fix="Use a T5")
    if size is not None:
        config.vocab_size = size
    return config


def restored_config(about: dict[str, Any]) -> T5Config:
    """The configuration that :meth:`T5Module.describe` gave."""
    from transformers import T5Config

    scaled = about.pop("scale_decoder_outputs", True)
    config = T5Config(**{key: value for key, value in about.items() if key not in _DERIVED})
    config.scale_decoder_outputs = bool(scaled)
    return config
