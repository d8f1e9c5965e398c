"""A model whose answers come from a tape where it has them, and go onto it where not."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError
from onoma.language.base import (
    BadAnswer,
    Completion,
    Decoding,
    LanguageError,
    LanguageModel,
    Message,
    Meter,
    ToolCall,
    Usage,
    Weights,
)
from onoma.language.tape import Header, Line, Tape, key

R = TypeVar("R")
Answer = dict[str, Any]

# A timeout says nothing of the answer; every other fault comes again with the same question.
LASTING = frozenset(BadAnswer.KINDS) - {"timeout"}


class Taped(LanguageModel):
    """Answers from a tape, and asks a model for what the tape lacks.

    A question that is asked twice is asked once, by however many threads; only a stream does not
    wait for another stream of the same question. Faults that come again with the same question
    (all but a timeout) are taped like answers. Embeddings are kept text by text, so batches may be
    cut differently.

    Args:
        model: answers what the tape lacks; None replays only, and needs no model library.
        tape: the file, or where it is.
        note: for the first line of a new tape.
        drawn: whether answers at a temperature above 0 are taped; else the model is asked anew.

    Attributes:
        tape: the file.
        model: what is behind it.
        meter: what reached the model, and how many calls were answered by the tape alone.
        recorded: what all answers given so far took when they were first given, each counted
            once: after a replay it holds what ``meter`` held after the recording.

    Raises:
        OnomaError: nothing to replay, or a tape of another model or another context.
    """

    def __init__(
        self,
        model: LanguageModel | None,
        tape: Tape | str | Path,
        *,
        note: str = "",
        drawn: bool = True,
    ) -> None:
        self.tape = tape if isinstance(tape, Tape) else Tape(tape)
        self.model, self._drawn = model, drawn
        if model is not None:
            header = Header(
                model=model.identity,
                able=tuple(sorted(model.able)),
                prices=dict(model.meter.prices),
                context=model.context,
                note=note,
            )
            self.tape.start(header)
            self.concurrency = model.concurrency
        elif self.tape.header is not None:
            header = self.tape.header
        else:
            raise OnomaError(
                "there is no tape" if not self.tape.path.exists() else "the tape is empty",
                where=str(self.tape.path),
                fix="Record one with {model: MODEL, record: FILE}",
            )
        super().__init__(header.prices)
        self.identity, self.context = header.model, header.context
        self._able = frozenset(header.able)
        self.recorded = Meter(dict(header.prices))
        self._told: set[str] = set()  # keys that are in ``recorded``
        self._tallies: list[dict[str, Usage]] = []
        self._asked: dict[str, Future[Line]] = {}
        self._lock = threading.Lock()
        if model is not None:
            self.meter = model.meter
        self._source = spent(model) if model is not None else self.meter

    @property
    def able(self) -> frozenset[str]:  # type: ignore[override]
        """The verbs of the model that was recorded."""
        return self._able

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> Completion:
        fresh: list[Completion] = []

        def ask(model: LanguageModel) -> Answer:
            done = model.complete(messages, schema=schema, tools=tools, decoding=decoding)
            fresh.append(done)
            answer: Answer = {"text": done.text, "data": done.data}
            return {**answer, "tools": [asdict(call) for call in done.tools]}

        def read(answer: Answer) -> Completion:
            calls = tuple(ToolCall(**call) for call in answer["tools"])
            return Completion(answer["text"], answer["data"], calls, Usage(replayed=1))

        if decoding.temperature and not self._drawn and self.model is not None:
            return self.model.complete(messages, schema=schema, tools=tools, decoding=decoding)
        question = {"messages": messages, "schema": schema, "tools": tools, "decoding": decoding}
        done = self._answer("complete", question, ask, read)
        return replace(done, usage=fresh[0].usage) if fresh else done

    def stream(
        self,
        messages: Sequence[Message],
        *,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> Iterator[str]:
        question = {"messages": messages, "decoding": decoding}
        name = key(self.identity, "stream", question)
        taped = self._drawn or not decoding.temperature or self.model is None
        line = self.tape.get(name) if taped else None
        if line is not None:
            self.meter.add(Usage(replayed=1))
            self._count(line)
            yield from self._read(line, lambda answer: answer["pieces"])
        elif self.model is None:
            raise self._missing("stream")
        else:
            pieces: list[str] = []
            used: list[Usage] = []
            fault: BadAnswer | None = None
            answer = self.model.stream(messages, decoding=decoding)
            while fault is None:
                # The thread that asks for the next piece may be another than before.
                with self._source.counted(used):
                    try:
                        piece = next(answer, None)
                    except BadAnswer as bad:
                        if not taped or bad.kind not in LASTING:
                            raise
                        fault = bad
                        break
                if piece is None:
                    break
                pieces.append(piece)
                yield piece
            if not taped:
                return
            written: Answer = {"pieces": pieces, **({"bad": _written(fault)} if fault else {})}
            line = self.tape.add("stream", [(name, written, sum(used, Usage()), question)])[0]
            self._count(line)
        if "bad" in line["answer"]:
            raise self._read(line, _fault)

    def logprobs(self, prompt: str | Sequence[Message], continuations: Sequence[str]) -> Weights:
        if "logprobs" not in self.able:
            raise self._unable("logprobs", "weigh given continuations")

        def ask(model: LanguageModel) -> Answer:
            weights = model.logprobs(prompt, continuations)
            return {"logprobs": weights.logprobs.tolist(), "tokens": weights.tokens.tolist()}

        def read(answer: Answer) -> Weights:
            return Weights(
                np.array(answer["logprobs"], dtype=np.float64),
                np.array(answer["tokens"], dtype=np.int64),
            )

        question = {"prompt": prompt, "continuations": continuations}
        return self._answer("logprobs", question, ask, read)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if "embed" not in self.able:
            raise self._unable("embed", "give vectors of texts")
        keys = {text: key(self.identity, "embed", {"text": text}) for text in texts}

        def ask(model: LanguageModel, lacking: Sequence[str]) -> list[Answer]:
            wanted = set(lacking)
            vectors = model.embed([text for text, name in keys.items() if name in wanted])
            return [{"vector": _as_text(vector)} for vector in vectors]

        lines = self._lines("embed", {name: {"text": text} for text, name in keys.items()}, ask)
        rows = [self._read(lines[keys[text]], _as_vector) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    def generate_items(
        self, messages: Sequence[Message], names: Sequence[str], k: int = 1
    ) -> list[int]:
        def ask(model: LanguageModel) -> Answer:
            return {"rows": [int(row) for row in model.generate_items(messages, names, k)]}

        def read(answer: Answer) -> list[int]:
            return [int(row) for row in answer["rows"]]

        question = {"messages": messages, "names": names, "k": k}
        return self._answer("generate_items", question, ask, read)

    def close(self) -> None:
        """Close the tape and the model behind it."""
        self.tape.close()
        if self.model is not None:
            self.model.close()

    def _answer(
        self,
        verb: str,
        question: Mapping[str, Any],
        ask: Callable[[LanguageModel], Answer],
        read: Callable[[Answer], R],
    ) -> R:
        """The answer to one question, read off the tape in any case, so that replays equal it."""

        def asked(model: LanguageModel, _: Sequence[str]) -> list[Answer]:
            try:
                return [ask(model)]
            except BadAnswer as bad:
                if bad.kind not in LASTING:
                    raise
                return [{"bad": _written(bad)}]

        name = key(self.identity, verb, question)
        line = self._lines(verb, {name: question}, asked)[name]
        if "bad" in line["answer"]:
            raise self._read(line, _fault)
        return self._read(line, read)

    def _lines(
        self,
        verb: str,
        questions: Mapping[str, Mapping[str, Any]],
        ask: Callable[[LanguageModel, Sequence[str]], list[Answer]],
    ) -> dict[str, Line]:
        """The lines with these keys; what is lacking is asked for by the first who needs it."""
        found: dict[str, Line] = {}
        mine: dict[str, Future[Line]] = {}
        others: dict[str, Future[Line]] = {}
        with self._lock:
            for name in questions:
                line = self.tape.get(name)
                if line is not None:
                    found[name] = line
                elif self.model is None:
                    raise self._missing(verb)
                elif name in self._asked:
                    others[name] = self._asked[name]
                else:
                    mine[name] = self._asked[name] = Future()
        if mine and self.model is not None:
            used: list[Usage] = []
            try:
                with self._source.counted(used):
                    answers = ask(self.model, list(mine))
                # The first of several answers of one call carries what the call took.
                took = [sum(used, Usage()), *[Usage()] * (len(mine) - 1)]
                new = [
                    (name, answer, usage, questions[name])
                    for name, answer, usage in zip(mine, answers, took, strict=True)
                ]
                for line, waiting in zip(self.tape.add(verb, new), mine.values(), strict=True):
                    found[line["key"]] = line
                    waiting.set_result(line)
            except BaseException as error:
                for waiting in mine.values():
                    if not waiting.done():
                        waiting.set_exception(error)
                raise
            finally:
                with self._lock:
                    for name in mine:
                        del self._asked[name]
        elif questions:
            self.meter.add(Usage(replayed=1))
        found.update({name: waiting.result() for name, waiting in others.items()})
        for line in found.values():
            self._count(line)
        return found

    @contextmanager
    def tally(self) -> Iterator[dict[str, Usage]]:
        """What the answers given in the meantime took when they were first given, by their key."""
        mine: dict[str, Usage] = {}
        with self._lock:
            self._tallies.append(mine)
        try:
            yield mine
        finally:
            with self._lock:
                self._tallies[:] = [other for other in self._tallies if other is not mine]

    def _count(self, line: Line) -> None:
        with self._lock:
            new = line["key"] not in self._told
            self._told.add(line["key"])
            tallies = list(self._tallies)
        if new or tallies:
            used = self._read(line, lambda _: Usage(**line["usage"]))
            if new:
                self.recorded.add(used)
            for tally in tallies:
                tally[line["key"]] = used

    def _read(self, line: Line, how: Callable[[Answer], R]) -> R:
        try:
            return how(line["answer"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self.tape.damaged(line["key"]) from None

    def _missing(self, verb: str) -> LanguageError:
        return LanguageError(
            f"no answer to this question ({verb}) is on the tape: its prompt, its settings or the "
            "data are not those of the recording",
            where=str(self.tape.path),
            fix=f"Record it again with {{model: MODEL, record: {self.tape.path}}}; "
            f"it holds answers of {self.identity}",
        )


def spent(model: LanguageModel) -> Meter:
    """What a model's answers took, whether it gave them just now or a tape did."""
    return model.recorded if isinstance(model, Taped) else model.meter


def _written(bad: BadAnswer) -> Answer:
    return {"kind": bad.kind, "what": bad.what, "where": bad.where, "text": bad.text}


def _fault(answer: Answer) -> BadAnswer:
    bad = answer["bad"]
    return BadAnswer(bad["kind"], bad["what"], where=bad["where"], text=bad["text"])


def _as_text(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")


def _as_vector(answer: Answer) -> NDArray[np.float32]:
    raw = base64.b64decode(answer["vector"], validate=True)
    return np.frombuffer(raw, dtype="<f4").astype(np.float32)
