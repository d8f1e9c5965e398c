"""Tapes: what was recorded is said again, exactly, once, by whoever asks, without the model."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onoma.errors import OnomaError
from onoma.language import BadAnswer, Decoding, LanguageError, Usage
from onoma.language.local import Local
from onoma.language.tape import Header, Tape, key
from onoma.language.taped import Taped, spent

ASK = [{"role": "user", "content": "Name a movie like “Alien”. 🎬"}]
SCHEMA = {
    "type": "object",
    "properties": {"movie": {"enum": ["Alien", "Ronin"]}, "stars": {"type": "integer"}},
    "required": ["movie", "stars"],
    "additionalProperties": False,
}
NAMES = ["Alien", "Aliens", "Alien 3", "Ronin"]
HEADER = Header(model="m", able=("complete",))


@pytest.fixture
def model(tiny_folder):
    from onoma.language.torch_model import TorchModel

    return TorchModel(tiny_folder, prices={"prompt": 1.0, "completion": 3.0}, device="cpu")


@pytest.fixture(params=["torch", "local"])
def any_model(request, tiny_folder, tmp_path):
    """One engine, or two behind one identity."""
    if request.param == "torch":
        yield request.getfixturevalue("model")
        return
    for name in ("xllamacpp", "gguf"):
        pytest.importorskip(name, reason="the llm extra is not installed")
    sys.path.insert(0, str(Path(__file__).parent))
    from tiny_gguf import tiny_gguf

    place = tmp_path / "pulled"
    place.mkdir()
    (place / "torch").symlink_to(tiny_folder)
    (place / "model.gguf").symlink_to(tiny_gguf(tiny_folder))
    (place / "pulled.json").write_text('{"sha256": "0123456789abcdef"}')
    prices = {"prompt": 1.0, "completion": 3.0}
    made = Local(place, prices=prices, device="cpu", context=512, threads=1)
    yield made
    made.close()


def session(model):
    """Every verb, one of them twice, one fault, one stream that is cut."""
    stars = {"movie": {"enum": ["Alien"]}, "stars": {"enum": [1, 2, 3]}}
    held = {**SCHEMA, "properties": stars}
    said = []
    for _ in range(2):
        done = model.complete(ASK, schema=held)
        said.append((done.text, done.data, done.tools))
    for ask in (
        lambda: model.complete(ASK, decoding=Decoding(max_tokens=3)),
        lambda: list(model.stream(ASK, decoding=Decoding(max_tokens=5))),
    ):
        with pytest.raises(BadAnswer) as bad:
            ask()
        said.append((bad.value.kind, bad.value.text, str(bad.value)))
    weights = model.logprobs("Movies like Alien,", [f" {name}" for name in NAMES])
    said += [weights.logprobs.tobytes(), weights.tokens.tobytes()]
    said.append(model.embed([*NAMES, NAMES[0]]).tobytes())
    said.append(model.embed(NAMES[1:3]).tobytes())
    said.append(model.generate_items(ASK, NAMES, 3))
    return said


def test_a_replay_equals_the_recording_and_its_costs(any_model, tmp_path):
    model = any_model
    recorder = Taped(model, tmp_path / "tape.jsonl", note="test")
    said = session(recorder)
    used = recorder.meter.report()
    assert used["calls"] > 4 and used["cost"] > 0 and used["replayed"] == 2
    assert spent(recorder).report() == {**used, "replayed": 0}
    recorder.tape.close()

    written = (tmp_path / "tape.jsonl").read_bytes()
    replay = Taped(None, tmp_path / "tape.jsonl")
    assert session(replay) == said
    assert replay.meter.report() == {
        **dict.fromkeys(used, 0), "replayed": 8, "seconds": 0.0, "cost": 0.0,
    }  # fmt: skip
    assert spent(replay).report() == {**used, "replayed": 0}
    assert (replay.able, replay.context) == (model.able, model.context)
    # The same model goes on with the tape, and asks nothing that is on it.
    size = {"context": model.context} if isinstance(model, Local) else {}
    again = Taped(type(model)(model.folder, device="cpu", **size), tmp_path / "tape.jsonl")
    assert session(again) == said and again.meter.total.calls == 0
    assert (tmp_path / "tape.jsonl").read_bytes() == written
    assert b'Ronin"' not in written.replace(b'"Ronin"', b"") and b"Name a movie" not in written


def test_what_a_second_tape_takes_down_is_what_the_first_cost(model, tmp_path):
    first = Taped(model, tmp_path / "first")
    said = session(first)
    cost = spent(first).report()
    second = Taped(Taped(None, tmp_path / "first"), tmp_path / "second")
    assert session(second) == said and spent(second).report() == cost
    assert spent(Taped(None, tmp_path / "second")).total == Usage()


def test_replaying_imports_no_model_library(model, tmp_path):
    Taped(model, tmp_path / "tape").logprobs("Movies like Alien,", [" Ronin"])
    code = """
import sys
from onoma.language.opening import open_model
model = open_model("cassette:" + sys.argv[1])
print(model.logprobs("Movies like Alien,", [" Ronin"]).logprobs[0].hex())
assert not {"torch", "transformers", "xllamacpp", "openai"} & set(sys.modules)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "tape")], capture_output=True, text=True
    )
    there = model.logprobs("Movies like Alien,", [" Ronin"]).logprobs[0]
    assert out.stdout.split() == [float(there).hex()], out.stderr


def test_many_threads_ask_a_question_once(model, tmp_path):
    taped = Taped(model, tmp_path / "tape")
    with ThreadPoolExecutor(8) as pool:
        weighed = list(pool.map(lambda _: taped.logprobs("Movies:", [" Alien"]), range(24)))
        batches = list(pool.map(lambda i: taped.embed(NAMES[i % 2 :]), range(24)))
    assert len({one.logprobs.tobytes() for one in weighed}) == 1
    assert len({batch[-1].tobytes() for batch in batches}) == 1
    assert len(taped.tape) == 1 + len(NAMES)
    # One weighing, and one or two batches of vectors: by who came first.
    assert taped.meter.total.calls in (2, 3)


def test_a_question_that_was_not_recorded_is_told(model, tmp_path):
    path = tmp_path / "tape"
    Taped(model, path).logprobs("Movies:", [" Alien"])
    replay = Taped(None, path)
    for ask in (
        lambda: replay.logprobs("Movies: ", [" Alien"]),
        lambda: replay.complete(ASK),
        lambda: list(replay.stream(ASK)),
        lambda: replay.embed(["Alien"]),
        lambda: replay.generate_items(ASK, NAMES),
    ):
        with pytest.raises(LanguageError, match="not those of the recording. Record it again"):
            ask()
    with pytest.raises(OnomaError, match="there is no tape"):
        Taped(None, tmp_path / "none")
    Tape(tmp_path / "other").start(HEADER)
    with pytest.raises(LanguageError, match="cannot weigh"):
        Taped(None, tmp_path / "other").logprobs("Movies:", [" Alien"])
    with pytest.raises(OnomaError, match="answers of m, not of torch:"):
        Taped(model, tmp_path / "other")


def test_everything_of_a_question_counts():
    asked = {"messages": ASK, "schema": SCHEMA, "tools": None, "decoding": Decoding()}
    other = {**SCHEMA, "properties": dict(reversed(SCHEMA["properties"].items()))}
    keys = {
        key("m", "complete", asked),
        key("n", "complete", asked),
        key("m", "logprobs", asked),
        key("m", "complete", {**asked, "schema": None}),
        key("m", "complete", {**asked, "schema": other}),
        key("m", "complete", {**asked, "decoding": Decoding(seed=1)}),
        key("m", "complete", {**asked, "messages": [*ASK, *ASK]}),
    }
    assert len(keys) == 7
    same = {**asked, "messages": tuple(ASK), "decoding": Decoding(temperature=0)}
    assert key("m", "complete", same) == key("m", "complete", asked)


def test_a_broken_last_line_is_left_out_and_healed(tmp_path):
    path = tmp_path / "tape"
    tape = Tape(path)
    tape.start(HEADER)
    rows = [(f"{n:064}", {"text": "é\u2028\n" * n}, Usage(calls=n), None) for n in range(3)]
    for row in rows:
        tape.add("complete", [row])
    whole = path.read_bytes()
    begin = whole.rindex(b"\n", 0, -1) + 1
    for end in range(begin, len(whole)):
        path.write_bytes(whole[:end])
        torn = Tape(path)
        assert len(torn) == 2 and torn.get(rows[2][0]) is None
        torn.add("complete", rows)
        assert path.read_bytes() == whole
    for end in range(whole.index(b"\n") + 1):  # killed while the first line was written
        path.write_bytes(whole[:end])
        Tape(path).start(HEADER)
        assert path.read_bytes() == whole[: whole.index(b"\n") + 1]


def test_a_damaged_line_is_named(tmp_path, model):
    path = tmp_path / "tape"
    tape = Tape(path)
    tape.start(HEADER)
    for n in range(3):
        tape.add("complete", [(f"{n:064}", {"text": "a", "data": None}, Usage(), None)])
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong in (b"\n", b"{}\n", lines[2][1:], lines[2][:-2] + b"\n", b"\xff\xfe\n", b"[1]\n"):
        path.write_bytes(b"".join([*lines[:2], wrong, *lines[3:]]))
        with pytest.raises(OnomaError, match="line 3 is damaged. Take that line out"):
            Tape(path)
    path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(OnomaError, match="line 1 does not begin a tape of version 1"):
        Tape(path)
    # A line that is whole, with an answer of another form than its verb's.
    name = key("m", "complete", {
        "messages": ASK, "schema": None, "tools": None, "decoding": Decoding()
    })  # fmt: skip
    path.write_bytes(lines[0])
    Tape(path).add("complete", [(name, {"words": "a"}, Usage(), None)])
    with pytest.raises(OnomaError, match="line 2 is damaged"):
        Taped(None, path).complete(ASK)


WRITER = """
import sys
from onoma.language import Usage
from onoma.language.tape import Header, Tape
path, who = sys.argv[1:]
tape = Tape(path)
tape.start(Header(model="m"))
for n in range(200):
    got = tape.add("complete", [(f"{n:064}", {"text": who * 50}, Usage(calls=1), None)])
    print(got[0]["answer"]["text"][0], end="")
"""


def test_several_processes_share_a_tape(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "tape"), who],
            stdout=subprocess.PIPE, text=True,
        )
        for who in "ab"
    ]  # fmt: skip
    said = [writer.communicate(timeout=60)[0] for writer in writers]
    tape = Tape(tmp_path / "tape")
    assert len(tape) == 200 == len((tmp_path / "tape").read_bytes().splitlines()) - 1
    # Whoever was first, both were told the same.
    assert said[0] == said[1] == "".join(line["answer"]["text"][0] for line in tape)


def test_questions_are_kept_only_when_asked_for(model, tmp_path):
    for keep in (False, True):
        path = tmp_path / str(keep)
        Taped(model, Tape(path, questions=keep)).logprobs("Movies like Heat,", [" Ronin"])
        assert (b"Heat" in path.read_bytes()) is keep
    question = json.loads(path.read_text().splitlines()[1])["question"]
    assert question == {"prompt": "Movies like Heat,", "continuations": [" Ronin"]}


def test_drawn_answers_stay_off_a_cache_but_not_off_a_cassette(model, tmp_path):
    drawn = Decoding(temperature=1.0, max_tokens=4)
    for keep, calls in ((False, 4), (True, 2)):
        taped = Taped(model, tmp_path / str(keep), drawn=keep)
        model.meter.reset()
        taped.meter.reset()
        for _ in range(2):
            with pytest.raises(BadAnswer, match="after 4 tokens"):
                taped.complete(ASK, decoding=drawn)
            with pytest.raises(BadAnswer, match="after 4 tokens"):
                list(taped.stream(ASK, decoding=drawn))
        assert taped.meter.total.calls == calls
        assert len(taped.tape) == 2 * keep


def test_a_timeout_is_not_taped(model, tmp_path, monkeypatch):
    taped, answer = Taped(model, tmp_path / "tape"), model.logprobs
    faults = [BadAnswer("timeout", "no answer", where="m"), BadAnswer("context", "long", where="m")]

    def once(*question):
        if faults:
            raise faults.pop(0)
        return answer(*question)

    monkeypatch.setattr(model, "logprobs", once)
    with pytest.raises(BadAnswer, match="no answer"):
        taped.logprobs("Movies:", [" Alien"])
    for _ in range(2):
        with pytest.raises(BadAnswer, match="long"):
            taped.logprobs("Movies:", [" Alien"])
    assert np.isfinite(taped.logprobs("Movies:", [" Ronin"]).logprobs).all()


@given(st.lists(st.floats(width=64), min_size=1), st.text())
def test_numbers_and_texts_survive_exactly(tmp_path_factory, numbers, text):
    path = tmp_path_factory.mktemp("tape") / "tape"
    tape = Tape(path)
    tape.start(HEADER)
    wanted = np.array(numbers).tobytes()
    tape.add("logprobs", [("0" * 64, {"logprobs": numbers, "text": text}, Usage(), None)])
    there = Tape(path).get("0" * 64)["answer"]
    found = np.array(there["logprobs"])
    same = np.array_equal(found, np.array(numbers), equal_nan=True)
    assert same and (np.isnan(numbers).any() or found.tobytes() == wanted) and there["text"] == text
