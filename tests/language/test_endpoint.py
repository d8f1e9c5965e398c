"""A server that misbehaves gets an error that says so or a counted bad answer, in bounded time."""

import json
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onoma.language import BadAnswer, Decoding, LanguageError, Usage

pytest.importorskip("openai", reason="the llm extra is not installed")
sys.path.insert(0, str(Path(__file__).parent))
from faulty import CHAT, ECHO, HELD, STREAM, VECTORS, WELL, WIRE, FaultyServer  # noqa: E402

from onoma.language.endpoint import Endpoint  # noqa: E402

NAMES = ["Alien", "Brazil", "Casablanca", "Dune"]
TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "year": {"type": "integer"}},
            "required": ["query", "year"],
            "additionalProperties": False,
        },
    },
}


def said(text):
    return [{"role": "user", "content": text}]


def marked(one):
    """The kind of fault that a question names in itself."""
    found = re.search(r"<<(.*?)>>", json.dumps(one.body))
    return found[1] if found else WELL


def endpoint(server, **more):
    settings = {"timeout": 5.0, "retries": 2, "backoff": 0.01, **more}
    return Endpoint(server.url, "little", **settings)


ASK = {
    "complete": lambda model, text: model.complete(said(text)).text,
    "items": lambda model, text: model.generate_items(said(text), NAMES, 2),
    "stream": lambda model, text: "".join(model.stream(said(text))),
    "logprobs": lambda model, text: model.logprobs(text, [" one", " two"]).logprobs.tolist(),
    "embed": lambda model, text: model.embed([text, "b"]).tolist(),
}
RIGHT = {
    "complete": lambda found: found == "A fine answer.",
    "items": lambda found: found in ([0, 1], [0]),  # [0]: the same item twice
    "stream": lambda found: found == "A fine answer.",
    "logprobs": lambda found: np.allclose(found, [-0.4, -0.4]),
    "embed": lambda found: np.allclose(np.linalg.norm(found, axis=1), 1),
}
OF = {
    "complete": CHAT,
    "items": {**CHAT, **HELD},
    "stream": STREAM,
    "logprobs": ECHO,
    "embed": VECTORS,
}
FAULTS = [(verb, kind) for verb, own in OF.items() for kind in (*WIRE, *own)]


def test_no_fault_gives_a_wrong_answer_or_hangs():
    assert len(FAULTS) >= 200
    wrong, seconds = [], []

    def ask(fault):
        verb, kind = fault
        began = time.perf_counter()
        try:
            found = ASK[verb](model, f"<<{kind}>>")
        except (BadAnswer, LanguageError) as error:
            if not str(error) or "Traceback" in str(error) or len(str(error)) > 500:
                wrong.append((verb, kind, str(error)))
        else:
            if not RIGHT[verb](found) or kind not in ("repeated",):
                wrong.append((verb, kind, found))
        seconds.append(time.perf_counter() - began)

    with FaultyServer(marked) as server:
        model = endpoint(
            server, timeout=0.5, deadline=1.5, retries=1, concurrency=32, largest=1 << 20
        )
        for verb in ASK:
            assert RIGHT[verb](ASK[verb](model, "well")), verb
        began = time.perf_counter()
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(ask, FAULTS))
        assert time.perf_counter() - began < 20
        # What went wrong stays with the question that it went wrong for.
        for verb in ASK:
            assert RIGHT[verb](ASK[verb](model, "well")), verb
        model.close()
    assert not wrong
    assert max(seconds) < 6
    assert threading.active_count() < 60


@pytest.mark.parametrize(
    ("verb", "kind", "told"),
    [
        ("complete", "silent", "timeout"),
        ("complete", "dribbled head", "timeout"),
        ("complete", "dribbled body", "timeout"),
        ("stream", "stops in between", "timeout"),
        ("stream", "dribbles in between", "timeout"),
        ("stream", "ends in between", "cut"),
        ("stream", "resets in between", "cut"),
        ("stream", "done in between", "cut"),
        ("stream", "length", "cut"),
        ("stream", "refused", "refusal"),
        ("stream", "bad event", "malformed"),
        ("complete", "length", "cut"),
        ("items", "length", "cut"),
        ("complete", "unfinished", "cut"),
        ("complete", "refused", "refusal"),
        ("complete", "content_filter", "refusal"),
        ("complete", "held back", "refusal"),
        ("complete", "too long", "context"),
        ("logprobs", "too long", "context"),
        ("complete", "empty", "empty"),
        ("complete", "null content", "empty"),
        ("complete", "null choices", "malformed"),
        ("complete", "not json", "malformed"),
        ("complete", "deep", "malformed"),
        ("complete", "huge", "malformed"),
        ("complete", "packed", "malformed"),
        ("complete", "unasked call", "malformed"),
        ("items", "invented", "malformed"),
        ("items", "almost", "malformed"),
        ("items", "too few", "malformed"),
        ("items", "nan", "malformed"),
        ("items", "surrogate", "malformed"),
        ("logprobs", "too short", "malformed"),
        ("logprobs", "null value", "malformed"),
        ("logprobs", "positive", "malformed"),
        ("logprobs", "cannot echo", "does not echo"),
        ("logprobs", "no logprobs", "does not echo"),
        ("logprobs", "another text", "does not echo"),
        ("embed", "ragged", "malformed"),
        ("complete", "reset", "cannot be reached"),
        ("complete", "401", "Set OPENAI_API_KEY"),
        ("complete", "404", "end in /v1"),
        ("complete", "html", "end in /v1"),
        ("complete", "moved", "has moved to http://127.0.0.1:1/v1"),
        ("complete", "400", "refuses the question"),
        ("complete", "500", "answers 500"),
        ("complete", "429 for long", "asks to wait 3600 s"),
        ("complete", "no quota", "answers 429"),
    ],
)
def test_each_fault_is_called_by_its_name(verb, kind, told, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    slow = told == "timeout"
    with FaultyServer([kind]) as server:
        model = endpoint(
            server, timeout=0.2 if slow else 10, deadline=0.5 if slow else None, largest=1 << 20
        )
        with pytest.raises(BadAnswer if told in BadAnswer.KINDS else LanguageError) as caught:
            ASK[verb](model, "?")
        model.close()
    if told in BadAnswer.KINDS:
        assert caught.value.kind == told
    else:
        assert told in str(caught.value)
    if kind == "length":
        assert caught.value.text
    if kind == "huge":
        assert "more than 1048576 bytes" in str(caught.value)


def test_what_may_pass_is_tried_again_and_counted():
    with FaultyServer(["429", "503", WELL]) as server:
        model = endpoint(server)
        answer = model.complete(said("?"))
        assert answer.text == "A fine answer."
        assert (answer.usage.calls, answer.usage.retries) == (1, 2)
        assert answer.usage.seconds > 0.05  # Retry-After of the first refusal
        assert (answer.usage.prompt, answer.usage.reused, answer.usage.completion) == (20, 8, 5)
        assert model.meter.total == answer.usage
        model.close()
    with FaultyServer(["reset", "reset in the body", "silent", WELL]) as server:
        model = endpoint(server, timeout=0.3, retries=3, deadline=5)
        assert model.complete(said("?")).usage.retries == 3
        model.close()
    with FaultyServer(["500", "400", WELL]) as server:
        model = endpoint(server)
        with pytest.raises(LanguageError, match="refuses"):
            model.complete(said("?"))
        assert len(server.asked) == 2  # the same would be refused again
        model.close()


def test_a_stream_is_not_begun_twice():
    with FaultyServer(["500", "resets in between", WELL]) as server:
        model = endpoint(server)
        came = []
        with pytest.raises(BadAnswer) as caught:
            came.extend(model.stream(said("?")))
        assert caught.value.kind == "cut" and len(server.asked) == 2
        assert "".join(model.stream(said("?"))) == "A fine answer."
        model.close()


def test_a_reader_who_leaves_a_stream_ends_it():
    with FaultyServer(["stops in between", WELL]) as server:
        model = endpoint(server, concurrency=1)
        pieces = model.stream(said("?"))
        assert next(pieces)
        pieces.close()
        began = time.perf_counter()
        assert model.complete(said("?")).text  # the only place is free again
        assert time.perf_counter() - began < 2
        model.close()


def test_closing_ends_what_is_under_way():
    with FaultyServer(["silent"]) as server:
        model = endpoint(server, timeout=30)
        with ThreadPoolExecutor(2) as pool:
            whole = pool.submit(model.complete, said("?"))
            part = pool.submit(lambda: list(model.stream(said("?"))))
            while len(server.asked) < 2:
                time.sleep(0.01)
            model.close()
            for one in (whole, part):
                with pytest.raises(LanguageError, match="closed"):
                    one.result(5)
        with pytest.raises(LanguageError, match="closed"):
            model.complete(said("?"))


def test_at_most_so_many_questions_at_once():
    now, most, lock = [0], [0], threading.Lock()

    def well(path, body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}

    with FaultyServer([WELL], well) as server:
        model = endpoint(server, concurrency=3)
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda i: model.complete(said(str(i))), range(24)))
        assert most[0] == 3
        model.close()


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    error = {"error": {"message": "bad key sk-very-secret given"}}
    with FaultyServer(lambda one: "401 with it" if one.body.get("seed") else WELL) as server:
        WIRE["401 with it"] = lambda handler, _: handler.json(error, 401)
        model = endpoint(server, key_env="MY_KEY")
        model.complete(said("?"))
        assert server.asked[0][0].headers["authorization"] == "Bearer sk-very-secret"
        with pytest.raises(LanguageError) as caught:
            model.complete(said("?"), decoding=Decoding(seed=1))
        assert "sk-very-secret" not in str(caught.value) and "MY_KEY" in str(caught.value)
        assert "sk-very-secret" not in model.identity
        model.close()
        del WIRE["401 with it"]
        bare = endpoint(server, key_env="NO_SUCH_KEY")
        bare.complete(said("?"))
        assert "authorization" not in server.asked[-1][0].headers
        bare.close()
    with pytest.raises(LanguageError, match="environment"):
        Endpoint("http://me:secret@127.0.0.1:1/v1", "x")


def test_tools_and_their_arguments():
    with FaultyServer([WELL]) as server:
        model = endpoint(server)
        (call,) = model.complete(said("?"), tools=[TOOL]).tools
        assert (call.id, call.name) == ("call_7", "search")
        assert call.arguments == {"query": "text", "year": 0}
        model.close()
    bad = {"id": "1", "function": {"name": "search", "arguments": '{"query": "x"}'}}
    message = {"choices": [{"message": {"tool_calls": [bad]}, "finish_reason": "tool_calls"}]}
    with FaultyServer([WELL], lambda *_: message) as server:
        model = endpoint(server)
        with pytest.raises(BadAnswer, match="year"):
            model.complete(said("?"), tools=[TOOL])
        model.close()


def test_the_newer_name_of_the_token_limit():
    def well(path, body):
        return {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}

    error = {"error": {"message": "Use 'max_completion_tokens' instead.", "param": "max_tokens"}}
    WIRE["renamed"] = lambda handler, _: handler.json(error, 400)
    with FaultyServer(lambda one: "renamed" if "max_tokens" in one.body else WELL, well) as server:
        model = endpoint(server)
        assert model.complete(said("?"), decoding=Decoding(max_tokens=7)).text == "x"
        assert server.asked[-1][0].body["max_completion_tokens"] == 7
        model.complete(said("?"))
        assert len(server.asked) == 3  # remembered
        model.close()
    del WIRE["renamed"]


def test_the_model_that_is_not_named():
    with FaultyServer([WELL]) as server:
        model = Endpoint(server.url)
        assert model.model == "little" and model.identity == f"{server.url}#little"
        model.close()
    with pytest.raises(LanguageError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(LanguageError, match="not an address"):
        Endpoint("127.0.0.1:9")


def test_a_token_that_straddles_prompt_and_continuation_counts():
    def well(path, body):
        tokens = ["<s>", "like", " The", " Thing", "!"]
        told = {"tokens": tokens, "token_logprobs": [None, -1.0, -2.0, -4.0, -8.0]}
        return {"choices": [{"index": 0, "logprobs": told}]}

    with FaultyServer([WELL], well) as server:
        model = endpoint(server)
        whole = model.logprobs("like", [" The Thing"])
        assert whole.logprobs.tolist() == [-6.0] and whole.tokens.tolist() == [2]
        inside = model.logprobs("like T", ["he Thing"])
        assert inside.logprobs.tolist() == [-6.0]
        assert model.logprobs("like The", [" Thing"]).logprobs.tolist() == [-4.0]
        with pytest.raises(LanguageError, match="messages"):
            model.logprobs(said("?"), ["x"])
        model.close()


def test_nothing_is_counted_twice():
    with FaultyServer([WELL]) as server:
        model = endpoint(server, prices={"prompt": 2.0, "reused": 1.0, "completion": 10.0})
        model.complete(said("?"))
        list(model.stream(said("?")))
        total = model.meter.total
        assert total == Usage(20, 8, 5, 2, 0, 0, total.seconds)
        assert model.meter.cost() == pytest.approx((12 * 2 + 8 * 1 + 5 * 10) / 1e6)
        box = []
        with model.meter.counted(box):  # what a tape takes down is counted in its own thread
            found = model.logprobs("many", [f" number {i}" for i in range(40)])
        assert len(found) == 40 and sum(used.calls for used in box) == 3
        model.close()
