"""The local model: exact probabilities whatever is cached or packed, answers under a constraint."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from onoma.language import BadAnswer, Decoding, LanguageError  # noqa: E402
from onoma.language.torch_model import TorchModel  # noqa: E402

TITLES = ["Alien", "Aliens", "Toy Story", "Toy Story 2", "The Matrix", "Blade Runner", "Ünïted 93"]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return TorchModel(tiny_folder)


def one_by_one(model, prompt, text):
    """The plain way: the whole text through the network, the continuation's tokens added up."""
    whole = model.tokenizer(prompt + text, add_special_tokens=False).input_ids
    alone = model.tokenizer(prompt, add_special_tokens=False).input_ids
    start = next(
        (i for i, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b),
        min(len(alone), len(whole) - 1),
    )
    with torch.inference_mode():
        said = torch.log_softmax(model.network(torch.tensor([whole])).logits[0].float(), dim=-1)
    return sum(float(said[place - 1, whole[place]]) for place in range(max(start, 1), len(whole)))


@settings(max_examples=25, deadline=None)
@given(
    prompt=st.text(min_size=1, max_size=30),
    texts=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True),
)
def test_packed_probabilities_are_those_of_each_text_alone(model, prompt, texts):
    found = model.logprobs(prompt, texts)
    expected = [one_by_one(model, prompt, text) for text in texts]
    np.testing.assert_allclose(found.logprobs, expected, atol=2e-4)


def test_more_names_than_a_pass_holds(model, monkeypatch):
    from onoma.language import tokentree

    prompt, texts = "Movies like Alien,", [f" {t}, part {n}" for t in TITLES for n in range(30)]
    whole = model.logprobs(prompt, texts).logprobs
    monkeypatch.setattr(tokentree, "STEP", 37)
    np.testing.assert_allclose(model.logprobs(prompt, texts).logprobs, whole, atol=1e-4)


def test_what_prompts_share_is_read_once(model):
    before = model.logprobs("A user liked The Matrix and", [" Alien"]).logprobs
    model.logprobs("A user liked The Shining and", [" Alien"])
    model.meter.reset()
    again = model.logprobs("A user liked The Matrix and", [" Alien"]).logprobs
    np.testing.assert_allclose(again, before, atol=1e-5)
    assert 0 < model.meter.total.reused < model.meter.total.prompt


def test_items_are_the_likeliest_names(model):
    messages = [{"role": "user", "content": "Which one next?"}]
    end = "<|im_end|>"
    exact = model.logprobs(messages, [title + end for title in TITLES]).logprobs
    assert model.generate_items(messages, TITLES, 4) == list(np.argsort(-exact)[:4])


def test_answers_fit_their_schema_and_equal_seeds_agree(model):
    schema = {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"enum": TITLES}, "minItems": 2, "maxItems": 3},
            "rating": {"type": "integer", "minimum": 1, "maximum": 5},
        },
        "required": ["items", "rating"],
        "additionalProperties": False,
    }
    messages = [{"role": "user", "content": "Rate and rank."}]
    answers = {
        seed: model.complete(
            messages, schema=schema, decoding=Decoding(temperature=1.5, seed=seed, max_tokens=400)
        )
        for seed in (1, 2, 3, 1)
    }
    for answer in answers.values():
        data = json.loads(answer.text)
        assert set(data["items"]) <= set(TITLES) and 2 <= len(data["items"]) <= 3
        assert data["rating"] in range(1, 6) and data == answer.data
    again = model.complete(
        messages, schema=schema, decoding=Decoding(temperature=1.5, seed=2, max_tokens=400)
    )
    assert again.text == answers[2].text != answers[3].text


def test_a_tool_is_called_with_arguments_that_fit(model):
    parameters = {
        "type": "object",
        "properties": {"item": {"enum": TITLES}},
        "required": ["item"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "similar", "parameters": parameters}}]
    for seed in range(4):
        try:
            answer = model.complete(
                [{"role": "user", "content": "Like Alien?"}],
                tools=tools,
                decoding=Decoding(temperature=1.0, seed=seed, max_tokens=200),
            )
        except BadAnswer as bad:
            assert bad.kind == "cut"
            continue
        assert answer.text or (answer.tools[0].arguments["item"] in TITLES)


def test_a_conversation_goes_on_after_a_call(model):
    function = {"name": "similar", "arguments": '{"item": "Alien"}'}
    messages = [
        {"role": "user", "content": "Like Alien?"},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "c", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "content": "Aliens"},
    ]  # fmt: skip
    text = model.render(messages)
    assert '{"call": "similar", "arguments": {"item": "Alien"}}' in text
    assert "Result of similar: Aliens" in text and "None" not in text
    tools = [{"type": "function", "function": {"name": "similar"}}]
    with pytest.raises(ValueError, match="follows a schema or calls tools, not both"):
        model.complete(messages, tools=tools, schema={"type": "object"})


def copied(folder, place):
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def test_the_chat_form_is_part_of_the_identity_and_may_refuse(model, tmp_path):
    other = copied(model.folder, tmp_path)
    assert TorchModel(other).identity == model.identity
    (other / "chat_template.jinja").write_text("{{ raise_exception('no system message') }}")
    refusing = TorchModel(other)
    assert refusing.identity != model.identity
    with pytest.raises(LanguageError, match=r"chat form .*no system message"):
        refusing.render([{"role": "user", "content": "Hello"}])


def test_streamed_pieces_make_the_whole_answer(model):
    messages = [{"role": "user", "content": "Say something."}]
    pieces = []
    with pytest.raises(BadAnswer) as cut:  # an untrained model never ends by itself
        for piece in model.stream(messages, decoding=Decoding(max_tokens=24)):
            pieces.append(piece)
    assert "".join(pieces) == cut.value.text and cut.value.kind == "cut" and len(pieces) > 1


def test_a_stop_text_ends_the_answer(model):
    messages = [{"role": "user", "content": "Say something."}]
    with pytest.raises(BadAnswer) as cut:
        model.complete(messages, decoding=Decoding(max_tokens=24))
    text = cut.value.text
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    answer = model.complete(messages, decoding=Decoding(max_tokens=24, stop=(stop,)))
    assert answer.text == text[: text.find(stop)]
    streamed = model.stream(messages, decoding=Decoding(max_tokens=24, stop=(stop,)))
    assert "".join(streamed) == answer.text


def written(stream):
    pieces = []
    with pytest.raises(BadAnswer):
        for piece in stream:
            pieces.append(piece)
    return "".join(pieces)


def test_a_stream_is_its_own_whoever_reads_it_and_whatever_is_asked_meanwhile(model):
    asked = [[{"role": "user", "content": text}] for text in ("Say something.", "And now?")]
    short = Decoding(max_tokens=8)
    alone = [written(model.stream(messages, decoding=short)) for messages in asked]
    stream = model.stream(asked[0], decoding=short)
    first = next(stream)
    assert written(model.stream(asked[1], decoding=short)) == alone[1]
    with ThreadPoolExecutor(1) as other:
        assert first + other.submit(written, stream).result(timeout=60) == alone[0]
    left = model.stream(asked[0], decoding=Decoding(max_tokens=400))
    next(left)
    model.meter.reset()
    left.close()
    assert model.meter.total.completion < 400
    with pytest.raises(BadAnswer, match="reads 512"):
        next(model.stream([{"role": "user", "content": "ab" * 2000}]))


def test_a_prompt_that_is_too_long_is_one_bad_answer(model):
    with pytest.raises(BadAnswer, match="reads 512") as long:
        model.logprobs("ab" * 2000, ["c"])
    assert long.value.kind == "context"


def test_vectors_do_not_depend_on_their_neighbours(model):
    together = model.embed([*TITLES, "a much longer text than the others, to be padded to"])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together[2], model.embed([TITLES[2]])[0], atol=1e-5)


def test_no_folder(tmp_path):
    with pytest.raises(LanguageError, match=r"no config\.json"):
        TorchModel(tmp_path)
