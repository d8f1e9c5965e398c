"""A model behind our own server says what it says without, and refuses what it should."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onoma.cli.main import main
from onoma.errors import OnomaError
from onoma.language import BadAnswer, Decoding, LanguageError

for name in ("openai", "fastapi", "uvicorn", "transformers", "llguidance", "httpx"):
    pytest.importorskip(name, reason="the llm and serve extras are not installed")

sys.path.insert(0, str(Path(__file__).parent))
import httpx  # noqa: E402
import openai  # noqa: E402
import uvicorn  # noqa: E402

from onoma.language.endpoint import Endpoint  # noqa: E402
from onoma.language.torch_model import TorchModel  # noqa: E402
from onoma.serving.language import create_app, serve  # noqa: E402
from onoma.serving.options import Options  # noqa: E402

SCHEMA = {
    "type": "object",
    "properties": {"film": {"enum": ["Alien", "Dune", "東京物語"]}, "stars": {"enum": [1, 2, 3]}},
    "required": ["film", "stars"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"genre": {"enum": ["noir", "western"]}},
            "required": ["genre"],
            "additionalProperties": False,
        },
    },
}
NAMES = [" Alien", " The Thing", " Amélie 東京 👍", " x"]


def said(text):
    return [{"role": "user", "content": text}]


class Served:
    """An application under uvicorn on a free port."""

    def __init__(self, app):
        config = uvicorn.Config(app, port=0, log_level="warning", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)

    def __enter__(self):
        return self


OPTIONS = Options(run="", store="", quiet=True)


@pytest.fixture(scope="module")
def bare(tiny_folder):
    return TorchModel(tiny_folder)


@pytest.fixture(scope="module")
def url(tiny_folder):
    with Served(create_app(TorchModel(tiny_folder), "tiny", OPTIONS)) as served:
        yield served.url


@pytest.fixture
def model(url):
    made = Endpoint(url, retries=0, timeout=30)
    yield made
    made.close()


def test_log_probabilities_are_those_of_the_model(bare, model, monkeypatch):
    for prompt in ("Movies like", "Movies like ", "東", said("A good film?")):
        right, found = bare.logprobs(prompt, NAMES), model.logprobs(prompt, NAMES)
        assert found.logprobs == pytest.approx(right.logprobs, abs=1e-4)
        assert (found.tokens == right.tokens).all()
    # The same by echoes, as from a server that has nothing else.
    monkeypatch.setattr(model, "_served", frozenset())
    for prompt in ("Movies like", "Movies like ", "東"):
        right, found = bare.logprobs(prompt, NAMES), model.logprobs(prompt, NAMES)
        assert found.logprobs == pytest.approx(right.logprobs, abs=1e-4)
        assert (found.tokens == right.tokens).all()


def test_answers_are_those_of_the_model(bare, model):
    question = said("Which film, and how many stars?")
    right = bare.complete(question, schema=SCHEMA)
    found = model.complete(question, schema=SCHEMA)
    assert found.data == right.data
    assert (found.usage.prompt, found.usage.completion) == (
        right.usage.prompt,
        right.usage.completion,
    )
    assert found.usage.calls == 1 and found.usage.retries == 0
    drawn = Decoding(max_tokens=12, temperature=1.5, seed=3)
    texts = []
    for one in (bare, model):
        with pytest.raises(BadAnswer) as caught:
            one.complete(question, decoding=drawn)
        assert caught.value.kind == "cut"
        texts.append(caught.value.text)
    assert texts[0] == texts[1] != ""
    pieces = []
    with pytest.raises(BadAnswer) as caught:
        pieces.extend(model.stream(question, decoding=drawn))
    assert caught.value.kind == "cut" and len(pieces) > 1
    assert "".join(pieces) == caught.value.text == texts[0]
    np.testing.assert_allclose(model.embed(NAMES), bare.embed(NAMES), atol=1e-5)


def test_tools(bare, model):
    right = bare.complete(said("Find."), tools=[TOOL], decoding=Decoding(max_tokens=60))
    found = model.complete(said("Find."), tools=[TOOL], decoding=Decoding(max_tokens=60))
    assert [(c.name, c.arguments) for c in found.tools] == [
        (c.name, c.arguments) for c in right.tools
    ]
    assert found.tools and found.text == right.text


def test_what_cannot_be_answered_is_called_by_its_name(model):
    with pytest.raises(BadAnswer) as caught:
        model.complete(said("word " * 800))
    assert caught.value.kind == "context"
    with pytest.raises(LanguageError, match="schema"):
        model.complete(said("x"), schema={"type": "nonsense"})
    with pytest.raises(LanguageError, match="tiny"):
        Endpoint(model.url, "another").complete(said("x"))


def test_many_at_once_get_each_their_own(bare, model):
    prompts = [f"Film number {i}" for i in range(24)]
    right = [bare.logprobs(prompt, [" good"]).logprobs[0] for prompt in prompts]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda p: model.logprobs(p, [" good"]).logprobs[0], prompts))
    assert found == pytest.approx(right, abs=1e-4)


def test_the_official_client(url):
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    assert [one.id for one in client.models.list()] == ["tiny"]
    made = client.embeddings.create(model="tiny", input="film")  # base64, unless told otherwise
    assert np.linalg.norm(made.data[0].embedding) == pytest.approx(1)
    answer = client.chat.completions.create(
        model="tiny", messages=said("?"), temperature=0, max_tokens=80,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content)["stars"] in (1, 2, 3)
    stream = client.chat.completions.create(
        model="tiny", messages=said("?"), max_tokens=5, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert chunks[-1].usage.completion_tokens == 5
    assert chunks[-2].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("path", "change", "status"),
    [
        ("chat/completions", {"messages": []}, 400),
        ("chat/completions", {"n": 3}, 400),
        ("chat/completions", {"top_p": 0.5}, 400),
        ("chat/completions", {"temperature": "NaN"}, 400),
        ("chat/completions", {"model": "gpt"}, 404),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400),
        ("chat/completions", {"response_format": {"type": "json_schema"}}, 400),
        ("completions", {"prompt": "x", "max_tokens": 5}, 400),  # torch alone only weighs
        ("completions", {"prompt": "", "echo": True, "logprobs": 1}, 400),
        ("score", {"prompt": "x", "messages": [], "continuations": ["a"]}, 400),
        ("score", {"prompt": "x", "continuations": []}, 400),
        ("nothing", {}, 404),
    ],
)  # fmt: skip
def test_refusals_have_the_form_of_the_interface(url, path, change, status):
    body = {"model": "tiny", **({"messages": said("?")} if "chat" in path else {}), **change}
    answer = httpx.post(f"{url}/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_who_may_ask(tiny_folder, url, monkeypatch):
    assert httpx.get(f"{url}/models", headers={"host": "evil.example"}).status_code == 400
    keyed = OPTIONS.model_copy(update={"require_keys": True})
    app = create_app(TorchModel(tiny_folder), "tiny", keyed, "a long secret")
    with Served(app) as served:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(LanguageError, match="asks for a key"):
            Endpoint(served.url, retries=0)
        monkeypatch.setenv("OPENAI_API_KEY", "a wrong one")
        with pytest.raises(LanguageError, match="refuses the key"):
            Endpoint(served.url, retries=0)
        monkeypatch.setenv("OPENAI_API_KEY", "a long secret")
        made = Endpoint(served.url, retries=0)
        assert len(made.logprobs("x", ["y"])) == 1
        made.close()
    outside = OPTIONS.model_copy(update={"host": "0.0.0.0"})
    with pytest.raises(OnomaError, match="--key-env"):
        serve(TorchModel(tiny_folder), "tiny", outside, None)
    with pytest.raises(OnomaError, match="holds no key"):
        serve(TorchModel(tiny_folder), "tiny", OPTIONS, "NO_SUCH_KEY")


def test_the_commands(url, capsys):
    """A service of ours in front of another, which needs no library of models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "onoma.cli.main", "models", "serve", f"{url}#tiny"]
    served = subprocess.Popen(
        [*command, "--port", str(port), "--quiet"], stderr=subprocess.PIPE, text=True
    )
    try:
        where = f"http://127.0.0.1:{port}/v1"
        assert served.stderr.readline().strip() == f"{where}#tiny"
        for _ in range(600):
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        model = Endpoint(where, "tiny", retries=0)
        assert len(model.embed(["x"])) == 1
        model.close()
        with pytest.raises(SystemExit) as left:
            main(["models", "try", where, "A film?", "--tokens", "6", "--json"])
        assert left.value.code == 0
        told = json.loads(capsys.readouterr().out)
        assert told["ended"] == "cut" and told["completion_tokens"] == 6 and told["text"]
    finally:
        served.send_signal(signal.SIGINT)
        assert served.wait(20) == 0


def test_llama_behind_the_server(tiny_folder):
    pytest.importorskip("xllamacpp", reason="the llm extra is not installed")
    pytest.importorskip("gguf", reason="the llm extra is not installed")
    from tiny_gguf import tiny_gguf

    from onoma.language.llama import LlamaModel

    bare = LlamaModel(tiny_gguf(tiny_folder), context=512, threads=1)
    drawn = Decoding(max_tokens=20, temperature=1.0, seed=2)
    with pytest.raises(BadAnswer) as right:
        bare.complete(said("Say hello."), decoding=drawn)
    with Served(create_app(bare, "little", OPTIONS)) as served:
        model = Endpoint(served.url, retries=0, timeout=60)
        for ask in (model.complete, lambda *a, **b: list(model.stream(*a, **b))):
            with pytest.raises(BadAnswer) as found:
                ask(said("Say hello."), decoding=drawn)
            assert (found.value.kind, found.value.text) == ("cut", right.value.text)
        begun = model.stream(said("On and on."), decoding=Decoding(max_tokens=400, temperature=1))
        next(begun)
        begun.close()  # who leaves makes room for the next
        held = Decoding(temperature=1.0, seed=4)
        told = model.complete(said("A film, with stars?"), schema=SCHEMA, decoding=held)
        assert told.data == bare.complete(said("A film, with stars?"), schema=SCHEMA,
                                          decoding=held).data  # fmt: skip
        assert told.usage.reused > 0
        text = {"model": "little", "prompt": "Movies like", "max_tokens": 5, "temperature": 0}
        (choice,) = httpx.post(f"{served.url}/completions", json=text).json()["choices"]
        assert choice["finish_reason"] == "length"
        with pytest.raises(BadAnswer) as caught:
            bare.continue_text("Movies like", Decoding(max_tokens=5))
        assert choice["text"] == caught.value.text
        with pytest.raises(LanguageError, match="echo"):
            model.logprobs("x", ["y"])
        model.close()
