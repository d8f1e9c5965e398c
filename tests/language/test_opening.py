"""One word opens a model: the right one, behind the right tape, or one line says why not."""

import json
import re

import pytest

from onoma.errors import OnomaError
from onoma.language import BadAnswer, Completion, Decoding, LanguageError, LanguageModel
from onoma.language.local import Local
from onoma.language.opening import KINDS, _cached, open_model
from onoma.language.taped import Taped
from onoma.language.torch_model import TorchModel

ASK = [{"role": "user", "content": "Hello"}]
QUESTION = ("Movies like Alien,", [" Aliens", " Ronin"])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONOMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "language"


def test_answers_are_kept_for_all_runs(tiny_folder, cache):
    first = open_model({"model": str(tiny_folder), "device": "cpu", "prices": {"prompt": 2}})
    weights = first.logprobs(*QUESTION)
    assert isinstance(first, Taped) and isinstance(first.model, TorchModel)
    assert first.meter.total.calls == 1 and first.meter.cost() > 0
    again = open_model(str(tiny_folder))
    assert again.logprobs(*QUESTION).logprobs.tobytes() == weights.logprobs.tobytes()
    assert (again.meter.total.calls, again.meter.total.replayed) == (0, 1)
    assert len(list(cache.iterdir())) == 1 and first.tape.path.parent == cache
    with pytest.raises(BadAnswer):
        again.complete(ASK, decoding=Decoding(max_tokens=2, temperature=1.0))
    assert again.meter.total.calls == 1 and len(again.tape) == 1  # what is drawn is not kept
    bare = open_model({"model": str(tiny_folder), "cache": False})
    assert isinstance(bare, TorchModel) and open_model(bare) is bare


def test_a_cache_that_is_damaged_or_cannot_be_written_does_no_harm(tiny_folder, cache, monkeypatch):
    path = open_model(str(tiny_folder)).tape.path
    path.write_bytes(path.read_bytes() + b"junk\n")
    model = open_model(str(tiny_folder))
    model.logprobs(*QUESTION)
    assert len(model.tape) == 1 and path.with_suffix(".damaged").read_bytes().endswith(b"junk\n")
    monkeypatch.setenv("ONOMA_CACHE", str(path))  # a file where a folder should be
    assert isinstance(open_model(str(tiny_folder)), TorchModel)


class Short(LanguageModel):
    """Reads as many words as it is told."""

    identity = "short:1"

    def __init__(self, context):
        super().__init__()
        self.context = context

    def complete(self, messages, *, schema=None, tools=None, decoding=None):
        if len(messages[0]["content"].split()) > self.context:
            raise BadAnswer("context", "too long", where=self.identity)
        return Completion("yes")


def test_what_is_too_long_is_asked_again_of_a_larger_context(cache, tmp_path):
    long = [{"role": "user", "content": "word " * 100}]
    for _ in range(2):
        with pytest.raises(BadAnswer, match="too long"):
            _cached(Short(64)).complete(long)
    assert _cached(Short(128)).complete(long).text == "yes"
    with pytest.raises(BadAnswer, match="too long"):
        _cached(Short(64)).complete(long)
    Taped(Short(64), tmp_path / "tape")
    with pytest.raises(OnomaError, match="by a model that reads 64 tokens, not 128. Record to an"):
        Taped(Short(128), tmp_path / "tape")


def test_what_is_recorded_is_replayed(tiny_folder, cache, tmp_path):
    path = tmp_path / "tapes" / "mine.jsonl"
    spec = {"model": str(tiny_folder), "record": str(path), "note": "for tests", "questions": True}
    weights = open_model(spec).logprobs(*QUESTION)
    assert not cache.exists()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["note"] == "for tests" and lines[1]["question"]["prompt"] == QUESTION[0]
    replay = open_model(f"cassette:{path}")
    assert replay.logprobs(*QUESTION).logprobs.tobytes() == weights.logprobs.tobytes()


def test_a_pulled_model_has_two_engines_and_one_identity(tiny_folder, cache):
    with pytest.raises(OnomaError, match="onoma models pull smollm2"):
        open_model("smollm2")
    place = cache.parent / "models" / "smollm2"
    place.mkdir(parents=True)
    (place / "torch").symlink_to(tiny_folder)
    (place / "pulled.json").write_text('{"sha256": "0123456789abcdef0123"}')
    model = open_model({"model": "smollm2", "cache": False, "device": "cpu", "context": 128})
    assert isinstance(model, Local)
    assert (model.identity, model.context) == ("local:0123456789abcdef", 128)
    alone = TorchModel(tiny_folder, device="cpu").logprobs(*QUESTION)
    assert model.logprobs(*QUESTION).logprobs.tobytes() == alone.logprobs.tobytes()
    assert model.meter.total.calls == 1
    with pytest.raises(LanguageError, match=r"model\.gguf"):
        model.complete(ASK)
    (place / "pulled.json").write_text("{}")
    with pytest.raises(LanguageError, match="not the folder of a pulled model"):
        open_model("smollm2")


def test_a_service_is_told_what_the_mapping_says(cache):
    pytest.importorskip("openai")
    spec = {"model": "http://127.0.0.1:9/v1#m", "concurrency": 3, "retries": 0, "timeout": 1}
    model = open_model(spec)
    assert model.concurrency == 3 and model.identity.endswith("#m")
    with pytest.raises(LanguageError):
        model.complete(ASK)
    model.close()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("gpt2", "no language model is called 'gpt2'. Give smollm2, PATH.gguf, a folder"),
        ("minilm", "no language model is called 'minilm'"),
        ("", "model: String should have at least 1 character. model is one of: smollm2"),
        ({}, "model: Field required. model is one of: smollm2, PATH.gguf"),
        (7, "a word or a mapping, not 7"),
        ({"model": "smollm2", "temperature": 1}, "temperature: Extra inputs are not permitted. "
         "The settings are model, record, note"),
        ({"model": "smollm2", "retries": 3}, "retries is no setting of smollm2. It takes record,"),
        ({"model": "cassette:a", "cache": True}, "cache is no setting of cassette:FILE. It takes "
         "no settings"),
        ({"model": "x.gguf", "context": 1}, "context: Input should be greater than or equal to 64"),
        ({"model": "smollm2", "prices": {"input": 1}}, "Prices are those of prompt, reused, comp"),
        ("none.gguf", "none.gguf: cannot be read"),
        ("cassette:none", "none: there is no tape. Record one with"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_told_in_one_line(spec, told, cache):
    with pytest.raises(OnomaError, match=re.escape(told)) as error:
        open_model(spec)
    assert "\n" not in str(error.value)


def test_every_setting_belongs_to_some_kind():
    from onoma.language.opening import _TAPES, Settings

    taken = {name for kind in KINDS.values() for name in kind.takes} | set(_TAPES) | {"model"}
    assert taken == set(Settings.model_fields)
