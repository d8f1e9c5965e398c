"""A causal language model of a transformers folder: exact probabilities, constrained answers."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma.language.answers import chosen, plain, with_tools
from onoma.language.base import (
    BadAnswer,
    Completion,
    Decoding,
    LanguageError,
    LanguageModel,
    Message,
    Usage,
    Weights,
)
from onoma.language.folders import adapted, adapter_hash, causal, folder_hash, tokenizer
from onoma.language.masks import Mask, drawn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from onoma.language.tokentree import Row


class TorchModel(LanguageModel):
    """Reads and weighs with PyTorch; what trains a model uses the same folder.

    The last prompt's keys and values are kept, so questions that begin alike (instructions,
    examples) are read once. Answers under a schema follow a mask over tokens that llguidance
    computes. One question at a time; calls from several threads wait for each other.

    Args:
        folder: ``config.json``, safetensors and a fast tokenizer.
        prices: of :class:`~onoma.language.base.Meter`.
        device: where it computes, in float32 on a processor and as the folder says elsewhere;
            default the accelerator if there is one.
        adapter: a folder of low-rank updates, as peft writes them; they are added to the weights.

    Raises:
        LanguageError: no folder of a causal model.
    """

    able = frozenset({"complete", "logprobs", "embed", "generate_items"})

    def __init__(
        self,
        folder: str | Path,
        *,
        prices: Mapping[str, float] | None = None,
        device: str | None = None,
        adapter: str | Path | None = None,
    ) -> None:
        super().__init__(prices)
        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file():
            raise LanguageError(
                "no config.json", where=str(folder), fix="Give a transformers folder"
            )
        self.identity = f"torch:{folder_hash(self.folder)}"
        self.adapter = None if adapter is None else Path(adapter)
        if self.adapter is not None:
            self.identity += f"+{adapter_hash(self.adapter)}"
        self.device = device
        self._lock = threading.RLock()

    @cached_property
    def network(self) -> PreTrainedModel:
        """The model, loaded when first asked for, without gradients."""
        return self.fresh()

    def fresh(self) -> PreTrainedModel:
        """The model of the folder, loaded anew, for training around and inside it.

        The adapter's updates are added to its weights, which want no gradients.

        Raises:
            LanguageError: it cannot be loaded, or the adapter does not fit.
        """
        network = causal(self.folder, self.device)
        if self.adapter is not None:
            network = adapted(network, self.adapter)
        return network.eval().requires_grad_(False)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The folder's tokenizer."""
        return tokenizer(self.folder)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        known = self.network.generation_config.eos_token_id if self.network.can_generate() else None
        found = {known} if isinstance(known, int) else set(known or ())
        if self.tokenizer.eos_token_id is not None:
            found.add(self.tokenizer.eos_token_id)
        if not found:
            raise LanguageError("the tokenizer names no token that ends", where=str(self.folder))
        return frozenset(found)

    @cached_property
    def _row(self) -> Row:
        from onoma.language.tokentree import Row

        return Row(self.network)

    @property
    def context(self) -> int:  # type: ignore[override]
        """Tokens that the model reads at most."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        return int(config.get("max_position_embeddings") or 0)

    def render(self, prompt: str | Sequence[Message]) -> str:
        """The text that the model reads: messages in its chat form, up to where it would answer.

        Calls and their results are told as text, since few chat forms have a place for them.

        Raises:
            LanguageError: the chat form refuses the messages or is broken.
        """
        if isinstance(prompt, str):
            return prompt
        messages = plain(prompt)
        if not self.tokenizer.chat_template:
            # A model that was never taught to chat reads the texts one after the other.
            return "\n\n".join(message["content"] for message in messages) + "\n\n"
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise LanguageError(
                f"the chat form refuses the messages ({error})", where=str(self.folder)
            ) from None
        return text

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> Completion:
        """As :meth:`LanguageModel.complete`.

        With tools, the model answers with an object that is either a call or a text (see
        :func:`onoma.language.answers.with_tools`).
        """
        if tools and schema is not None:
            raise ValueError("an answer follows a schema or calls tools, not both")
        began, written = time.perf_counter(), _Written()
        asked, wanted = (messages, schema) if not tools else with_tools(messages, tools)
        with self._lock:
            for _ in self._write(self.render(asked), wanted, decoding, written):
                pass
        usage = written.usage(began)
        self.meter.add(usage)
        text = written.text
        if written.cut:
            raise BadAnswer(
                "cut", f"no end after {decoding.max_tokens} tokens", where=self.identity, text=text
            )
        if not text.strip():
            raise BadAnswer("empty", "the answer is empty", where=self.identity)
        if wanted is None:
            return Completion(text, usage=usage)
        try:
            data = json.loads(text)
        except ValueError as error:  # the mask allows only JSON: a defect of the grammar
            raise BadAnswer("malformed", "not JSON", where=self.identity, text=text) from error
        if not tools:
            return Completion(text, data, usage=usage)
        said, calls = chosen(data, len(messages))
        return Completion(said, tools=calls, usage=usage)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> Iterator[str]:
        """As :meth:`LanguageModel.stream`."""
        began, written = time.perf_counter(), _Written()
        came: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        enough = threading.Event()

        def write() -> None:
            # All of an answer in one thread: no other question may come in between its tokens.
            try:
                with self._lock:
                    if not enough.is_set():
                        for piece in self._write(self.render(messages), None, decoding, written):
                            came.put(piece)
                            if enough.is_set():
                                break
            except BaseException as error:  # raised where the pieces are read
                came.put(error)
            came.put(None)

        writer = threading.Thread(target=write, name="torch-stream", daemon=True)
        writer.start()
        try:
            while (piece := came.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            enough.set()
            writer.join()
            if written.prompt:
                self.meter.add(written.usage(began))
        if written.cut:
            raise BadAnswer(
                "cut", f"no end after {decoding.max_tokens} tokens", where=self.identity,
                text=written.text,
            )  # fmt: skip

    def _write(
        self, text: str, schema: Mapping[str, Any] | None, decoding: Decoding, out: _Written
    ) -> Iterator[str]:
        """Decode token by token; whole pieces of text are yielded as they are certain."""
        import torch

        tokens = self._tokens(text, room=decoding.max_tokens)
        mask = None if schema is None else self._mask(schema)
        draw = torch.Generator().manual_seed(decoding.seed)
        written: list[int] = []
        with torch.inference_mode():
            out.prompt, out.reused = len(tokens), self._row.start(tokens)
            state = self._row.end
            for _ in range(decoding.max_tokens):
                logits = self._row.logits(state[None])[0].cpu()
                if mask is not None:
                    mask.hold(logits)
                token = drawn(logits, decoding.temperature, draw)
                out.tokens += 1
                if token in self.ends or (mask is not None and mask.take(token)):
                    if token not in self.ends:
                        written.append(token)
                    out.cut = False
                    break
                written.append(token)
                said = self.tokenizer.decode(written)
                stopped = [at for stop in decoding.stop if (at := said.find(stop)) >= 0]
                if stopped:
                    piece, out.text = said[len(out.text) : min(stopped)], said[: min(stopped)]
                    out.cut = False
                    if piece:
                        yield piece
                    return
                # A broken character, or what may become a stop text, waits for its rest.
                if not decoding.stop and not said.endswith("\ufffd"):
                    piece, out.text = said[len(out.text) :], said
                    if piece:
                        yield piece
                parent = len(written) - 2
                state = self._row.grow(torch.tensor([token]), torch.tensor([parent]))[0]
        said = self.tokenizer.decode(written)
        piece, out.text = said[len(out.text) :], said
        if piece:
            yield piece

    def logprobs(self, prompt: str | Sequence[Message], continuations: Sequence[str]) -> Weights:
        """As :meth:`LanguageModel.logprobs`; the prompt is read once for all continuations."""
        import torch

        from onoma.language.tokentree import common, weigh

        if not len(continuations):
            return Weights(np.zeros(0), np.zeros(0, dtype=np.int64))
        if not all(continuations):
            raise ValueError("an empty continuation has no probability")
        began = time.perf_counter()
        text = self.render(prompt)
        alone = self._tokens(text)
        whole = self.tokenizer([text + rest for rest in continuations], add_special_tokens=False)
        rows: list[list[int]] = [alone[: self._extra(alone, text)] + ids for ids in whole.input_ids]
        # Where words grow together across the border, the shared part ends before it.
        starts = [min(common(alone, row), len(row) - 1) for row in rows]
        shared = max(min(starts), 1)
        tails = [row[shared:] for row in rows]
        with self._lock, torch.inference_mode():
            reused = self._row.start(rows[0][:shared])
            skipped = [start - shared for start in starts]
            found = weigh(self._row, tails, skipped)
        tokens = np.array([len(t) - s for t, s in zip(tails, skipped, strict=True)], dtype=np.int64)
        self.meter.add(
            Usage(
                prompt=shared + sum(len(tail) for tail in tails), reused=reused, calls=1,
                seconds=time.perf_counter() - began,
            )
        )  # fmt: skip
        return Weights(found, tokens)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, d], mean of the last states of a text's tokens, of unit length."""
        import torch

        began = time.perf_counter()
        ids = [self._tokens(text or " ") for text in texts]
        out = np.zeros((len(texts), int(self.network.config.hidden_size)), dtype=np.float32)
        order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        begin = 0
        with self._lock, torch.inference_mode():
            while begin < len(order):
                size = max(1, 4096 // len(ids[order[begin]]))
                part = order[begin : begin + size]
                longest = len(ids[part[0]])
                tokens = torch.zeros((len(part), longest), dtype=torch.long)
                known = torch.zeros((len(part), longest), dtype=torch.bool)
                for line, place in enumerate(part):
                    tokens[line, : len(ids[place])] = torch.tensor(ids[place])
                    known[line, : len(ids[place])] = True
                states = self.network.base_model(
                    input_ids=tokens.to(self.network.device),
                    attention_mask=known.to(self.network.device),
                    use_cache=False,
                ).last_hidden_state.float().cpu()  # fmt: skip
                total = (states * known[:, :, None]).sum(dim=1)
                out[part] = torch.nn.functional.normalize(total, dim=1).numpy()
                begin += size
        self.meter.add(
            Usage(prompt=sum(map(len, ids)), calls=1, seconds=time.perf_counter() - began)
        )
        return out

    def generate_items(
        self, messages: Sequence[Message], names: Sequence[str], k: int = 1
    ) -> list[int]:
        """As :meth:`LanguageModel.generate_items`, by beam search over the tokens of the names.

        The likelihood of a name is that of its tokens and of the answer's end.
        """
        import torch

        from onoma.language.tokentree import search

        if not 1 <= k <= len(names) or len(set(names)) < len(names):
            raise ValueError("names must be distinct and k between 1 and their number")
        began = time.perf_counter()
        tokens = self._tokens(self.render(messages))
        end = min(self.ends)
        spelled = self.tokenizer(list(names), add_special_tokens=False).input_ids
        with self._lock, torch.inference_mode():
            reused = self._row.start(tokens)
            found = search(self._row, [[*ids, end] for ids in spelled], k, beam=max(4 * k, 16))
        self.meter.add(
            Usage(prompt=len(tokens), reused=reused, calls=1, seconds=time.perf_counter() - began)
        )
        return found

    def close(self) -> None:
        """Forget weights and cached keys."""
        for name in ("network", "_row"):
            self.__dict__.pop(name, None)

    def _tokens(self, text: str, room: int = 0) -> list[int]:
        """The tokens of a prompt, with what the tokenizer puts in front of it.

        Raises:
            BadAnswer: longer than the model reads.
        """
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        bos = self.tokenizer.bos_token_id
        if getattr(self.tokenizer, "add_bos_token", False) and bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids]
        if not ids:
            ids = [bos if bos is not None else min(self.ends)]
        if self.context and len(ids) + room > self.context:
            raise BadAnswer(
                "context",
                f"{len(ids)} tokens and {room} to write, the model reads {self.context}",
                where=self.identity,
            )
        return ids

    def _extra(self, tokens: list[int], text: str) -> int:
        """How many tokens :meth:`_tokens` put in front of the text's own."""
        return len(tokens) - len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _mask(self, schema: Mapping[str, Any]) -> Mask:
        return Mask(self._grammars, schema, self.identity)

    @cached_property
    def _grammars(self) -> Any:
        try:
            from llguidance import hf
        except ImportError as error:
            raise LanguageError(
                "answers under a schema need llguidance",
                where=self.identity,
                fix="pip install 'onoma[llm]'",
            ) from error
        return hf.from_tokenizer(
            self.tokenizer, n_vocab=self.network.config.vocab_size, eos_token=sorted(self.ends)
        )


@dataclass
class _Written:
    """What a decoding has come to."""

    text: str = ""
    prompt: int = 0
    reused: int = 0
    tokens: int = 0
    cut: bool = True

    def usage(self, began: float) -> Usage:
        """What it took since ``began``, of :func:`time.perf_counter`."""
        return Usage(
            prompt=self.prompt, reused=self.reused, completion=self.tokens, calls=1,
            seconds=time.perf_counter() - began,
        )  # fmt: skip
