"""A GGUF file in llama.cpp: held answers, whole streams, and no trace in the process."""

import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from onoma.language import BadAnswer, Decoding, LanguageError
from onoma.language.llama import LlamaModel

for name in ("xllamacpp", "gguf", "transformers", "jsonschema"):
    pytest.importorskip(name, reason="the llm extra is not installed")
sys.path.insert(0, str(Path(__file__).parent))
from tiny_gguf import tiny_gguf  # noqa: E402

from onoma.language.torch_model import TorchModel  # noqa: E402

NAMES = ["Alien", "Toy Story", 'A "quoted" one', "東京物語 👍"]
TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search films.",
        "parameters": {
            "type": "object",
            "properties": {"genre": {"enum": ["noir", "western"]}, "stars": {"enum": [1, 2]}},
            "required": ["genre", "stars"],
            "additionalProperties": False,
        },
    },
}


def said(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def model(tiny_folder):
    made = LlamaModel(tiny_gguf(tiny_folder), context=512, threads=1)
    yield made
    made.close()


def cut(ask):
    """The text of an answer that ends at the token limit."""
    with pytest.raises(BadAnswer) as caught:
        ask()
    assert caught.value.kind == "cut"
    return caught.value.text


def test_it_writes_what_the_same_weights_write_in_torch(model, tiny_folder):
    bare = TorchModel(tiny_folder)
    few = Decoding(max_tokens=12)
    for question in ("Rank Alien and Titanic.", "東京 👍", "x"):
        texts = {cut(partial(m.complete, said(question), decoding=few)) for m in (bare, model)}
        assert len(texts) == 1


def test_held_answers(model):
    for seed in range(4):
        drawn = Decoding(max_tokens=200, temperature=1.5, seed=seed)
        schema = {
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"enum": NAMES},
                                     "minItems": 2, "maxItems": 2}},
            "required": ["items"],
            "additionalProperties": False,
        }  # fmt: skip
        found = model.complete(said("?"), schema=schema, decoding=drawn)
        assert len(found.data["items"]) == 2 and set(found.data["items"]) <= set(NAMES)
    rows = model.generate_items(said("?"), NAMES, 2)
    assert rows and len(set(rows)) == len(rows) and set(rows) <= set(range(4))
    # What cannot be decoded under is refused, not decoded without.
    for schema in ({"type": "nonsense"}, {"not": {"type": "string"}}, {"$ref": "http://x/y"}):
        with pytest.raises(LanguageError, match="schema"):
            model.complete(said("?"), schema=schema)
    # What ends at the token limit is cut, and told as far as it came.
    assert cut(partial(model.complete, said("?"), schema={"type": "string", "minLength": 900}))


def test_tools(model):
    seen = set()
    for seed in range(12):
        drawn = Decoding(max_tokens=120, temperature=1.0, seed=seed)
        try:
            found = model.complete(said("Look for a film."), tools=[TOOL], decoding=drawn)
        except BadAnswer as bad:
            assert bad.kind == "cut"  # a text without an end
            continue
        if found.tools:
            (call,) = found.tools
            assert call.name == "search" and call.arguments["stars"] in (1, 2)
            assert call.arguments["genre"] in ("noir", "western") and not found.text
        else:
            assert found.text
        seen.add(bool(found.tools))
    assert True in seen
    call = {"id": "a", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    told = [
        *said("?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "Two films."},
    ]
    assert cut(lambda: model.complete(told, decoding=Decoding(max_tokens=3)))


def test_streams_are_the_answer_in_pieces(model):
    drawn = Decoding(max_tokens=24, temperature=1.2, seed=5)
    whole = cut(lambda: model.complete(said("?"), decoding=drawn))
    pieces = []
    assert cut(lambda: pieces.extend(model.stream(said("?"), decoding=drawn))) == whole
    assert "".join(pieces) == whole and len(pieces) > 2
    begun = model.stream(said("?"), decoding=Decoding(max_tokens=400, temperature=1.2))
    next(begun)
    begun.close()  # the engine is free again
    assert cut(lambda: model.complete(said("?"), decoding=drawn)) == whole


def test_what_is_read_again_is_counted_as_reused(model):
    few = Decoding(max_tokens=2)
    model.meter.reset()
    start = "A long beginning that both questions have. " * 4
    cut(lambda: model.complete(said(start + "One?"), decoding=few))
    first = model.meter.reset()
    cut(lambda: model.complete(said(start + "Two?"), decoding=few))
    second = model.meter.reset()
    assert second.reused > 0.7 * second.prompt and first.reused < 0.2 * first.prompt
    assert (first.calls, first.completion) == (1, 2)
    with pytest.raises(BadAnswer) as caught:
        model.complete(said("word " * 2000))
    assert caught.value.kind == "context"
    with pytest.raises(BadAnswer) as caught:
        list(model.stream(said("word " * 2000)))
    assert caught.value.kind == "context"


def test_threads_wait_for_each_other(model):
    drawn = Decoding(max_tokens=8, temperature=1.0, seed=1)
    questions = [f"Film number {i}?" for i in range(12)]
    right = [cut(lambda q=q: model.complete(said(q), decoding=drawn)) for q in questions]
    with ThreadPoolExecutor(6) as pool:
        ask = lambda q: cut(lambda: model.complete(said(q), decoding=drawn))  # noqa: E731
        assert list(pool.map(ask, questions)) == right


def test_the_process_stays_its_own(model, tiny_folder, capfd):
    threads = threading.active_count()  # other tests of this process have some, too
    cut(lambda: model.complete(said("?"), decoding=Decoding(max_tokens=1)))
    caught = []
    before = signal.signal(signal.SIGINT, lambda *_: caught.append("Ctrl-C"))
    try:
        other = LlamaModel(tiny_gguf(tiny_folder), context=256, threads=1)
        cut(lambda: other.complete(said("?"), decoding=Decoding(max_tokens=1)))
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        assert caught == ["Ctrl-C"]
        address = other._held[0].listening_address
        asked = urllib.request.Request(f"{address}/completion", b'{"prompt": "x"}')
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=5)
        assert refused.value.code == 401
        other.close()
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(LanguageError, match="closed"):
        other.complete(said("?"))
    assert capfd.readouterr() == ("", "")
    assert threading.active_count() < threads + 20


def test_files_that_are_none(tmp_path):
    with pytest.raises(LanguageError, match="GGUF"):
        LlamaModel(tmp_path / "nothing.gguf")
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF and nothing else")
    with pytest.raises(LanguageError, match="cannot load"):
        LlamaModel(path).complete(said("?"))
