"""P5: the shared suite, then names in tokens, questions, and answers with and without the trie."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Dataset, split
from onoma.dataset.events import log_rows
from onoma.errors import OnomaError
from onoma.evaluation.families import family_figures, name_figures
from onoma.evaluation.preferences import preference_figures
from onoma.evaluation.texts import Biases, coverage, star_figures, text_figures
from onoma.indexing import build
from onoma.recommenders.base import Requests
from onoma.recommenders.text.corpus import Corpus
from onoma.recommenders.text.lcrec import LCRec
from onoma.recommenders.text.masking import Piece, blanked, spans
from onoma.recommenders.text.mender import Mender
from onoma.recommenders.text.mixture import Mixture
from onoma.recommenders.text.p5 import P5
from onoma.recommenders.text.preferences import nearest, turned
from onoma.recommenders.text.prompts import collection
from onoma.recommenders.text.recsysllm import BLANK, RecSysLLM
from onoma.recommenders.text.spelling import Spelling
from onoma.recommenders.text.vocabulary import Vocabulary

pytest.importorskip("transformers")

QUICK = {"epochs": 6, "batch_tokens": 4096, "lr": 5e-3, "valid_every": 6}


def p5(**settings):
    settings = {
        "index": {"method": "rqkmeans", "levels": 2, "size": 8},
        "encoder": {"name": "collaborative", "dim": 8},
        "families": {"sequential": 2, "direct": 1},
        "width": 32, "layers": 1, "heads": 2, "inner": 64, "vocabulary": 400, "candidates": 5,
        "train": QUICK, **settings,
    }  # fmt: skip
    return P5(quiet=True, **settings)


class TestP5(Conformance):
    tolerance = 0.06  # the decoder computes in bf16 where the machine has it

    def make(self):
        return p5()


def lcrec(**settings):
    families = {"sequential": 2, "mutual": 1, "asymmetric": 1, "preference": 1}
    return LCRec(
        quiet=True,
        **{
            "index": {"method": "rqkmeans", "levels": 2, "size": 8},
            "encoder": {"name": "collaborative", "dim": 8},
            "families": families, "width": 32, "layers": 2, "heads": 2, "inner": 64,
            "vocabulary": 400, "train": QUICK, **settings,
        },
    )  # fmt: skip


class TestLCRec(Conformance):
    tolerance = 0.06

    def make(self):
        return lcrec()


def small(model, **settings):
    settings = {"index": {"method": "independent"}, "train": QUICK, **settings}
    return model(
        quiet=True, width=32, layers=1, heads=2, inner=64, vocabulary=400, **settings
    )  # fmt: skip


class TestMender(Conformance):
    tolerance = 0.06

    def make(self):
        return small(Mender)


class TestRecSysLLM(Conformance):
    tolerance = 0.06

    def make(self):
        return small(RecSysLLM, families={"blank": 2, "sequential": 1})


@pytest.fixture(scope="module")
def reviewed():
    """A log with ratings that depend on the item, and reviews that praise its colour."""
    rng = np.random.default_rng(0)
    colours = "crimson emerald violet golden indigo orange purple silver".split()
    rows = []
    for user in range(40):
        for step, item in enumerate(rng.choice(20, 6, replace=False)):
            stars = 5 if item % 2 else 2
            word = colours[item % 8]
            text = f"I opened the box today. The {word} paint looks as it should. Nothing more."
            rows.append((f"u{user}", f"i{item}", step, stars, f"{word} thing", text))
    names = ["user_id", "item_id", "timestamp", "rating", "review_title", "review_text"]
    log = pl.DataFrame(rows, schema=names, orient="row")
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(20)],
            "title": [f"paint number i{n}" for n in range(20)],
            "categories": [["Art", colours[n % 8]] for n in range(20)],
        }
    )
    return split(Dataset.construct(log, items, name="reviewed"))


@pytest.fixture(scope="module")
def fitted(reviewed):
    families = {"rating": 2, "sequential": 2, "explanation": 2, "review": 2, "direct": 2}
    train = {**QUICK, "epochs": 40, "valid_every": 40}
    return p5(families=families, batch=32, train=train).fit(reviewed)


@pytest.mark.parametrize("method", ["random", "title", "sequential", "collaborative", "semantic"])
def test_every_index_is_spelled_and_read_back(small_split, method):
    vectors = np.random.default_rng(0).standard_normal((small_split.dataset.n_items, 8))
    index = build(method).build(small_split, vectors.astype(np.float32))
    vocabulary = Vocabulary.learnt(["some words to begin with"], 300)
    for form in ("tokens", "text"):
        spelling = Spelling.of(index, vocabulary, form)
        assert (spelling.trie.find(spelling.tokens) == np.arange(index.n_items)).all()
        assert (spelling.tokens < spelling.size).all()
        # without its last token but the end, a name is another's or nobody's, never its own
        cut = spelling.tokens.copy()
        cut[:, 0] = vocabulary.end
        cut[:, 1:] = -1
        assert (spelling.trie.find(cut) < 0).all()


def test_numbers_are_cut_in_pieces_of_three_digits_and_come_back():
    vocabulary = Vocabulary.learnt(["no digits here"] * 3, 1600)
    ids, words = vocabulary.encode("item_123456")
    assert len(ids) < len("item_123456") and words[0] == 0
    assert vocabulary.decode([[*ids, vocabulary.end, *ids]]) == ["item_123456"]


def test_the_tokens_of_a_name_are_one_word(fitted):
    question = fitted.asked(Requests.histories(_named(), [["i1", "i2"]]))[0]
    tokens, words = fitted.writer.written(question.prompt.ask, question.values)
    name = fitted.spelling.tokens[question.values["history"][0]]
    name = name[(name >= 0) & (name != fitted.vocabulary.end)]
    at = np.flatnonzero(tokens == name[0])[0]
    assert (tokens[at : at + len(name)] == name).all()
    assert len(set(words[at : at + len(name)])) == 1 and words[at - 1] < words[at]
    assert words.min() == 1 and (np.diff(words) >= 0).all()


def _named():
    log = pl.DataFrame({"user_id": ["u"] * 20, "item_id": [f"i{n}" for n in range(20)]})
    return Dataset.construct(log)


@pytest.fixture(scope="module")
def aligned(reviewed):
    return lcrec(index={"method": "title"}, families={"sequential": 1, "intention": 1}).fit(
        reviewed
    )


@pytest.mark.parametrize("which", ["fitted", "aligned"])
def test_scores_are_those_of_true_answers(which, reviewed, request):
    # The speller's cache against one pass of transformers over whole answers.
    fitted = request.getfixturevalue(which)
    requests = Requests.of(reviewed.test).slice(0, 6)
    tokens = fitted.spelling.tokens
    whole = fitted.likelihood(fitted.asked(requests), np.broadcast_to(tokens, (6, *tokens.shape)))
    torch.testing.assert_close(fitted.score(requests), torch.from_numpy(whole), rtol=0.02, atol=0.1)


def test_held_prompts_are_never_trained_on(fitted, reviewed):
    mixture = Mixture(fitted, reviewed)
    asked = [q for epoch in range(3) for b in mixture.plan(0, epoch) for q in mixture.questions(b)]
    assert not any(q.prompt.held for q in asked)
    families = {q.prompt.family for q in asked}
    assert families == {"rating", "sequential", "explanation", "review", "direct"}
    assert len(mixture.plan(0, 0)) == len(mixture.plan(0, 1))
    again = mixture.questions(mixture.plan(0, 1)[0])
    assert [q.event for q in again] == [q.event for q in mixture.questions(mixture.plan(0, 1)[0])]


def test_questions_tell_nothing_of_what_comes_later(fitted, reviewed):
    corpus = fitted.corpus(reviewed, "train")
    targets = dict(zip(reviewed.test.users, reviewed.test.targets.values, strict=True))
    for event in range(len(corpus)):
        assert targets[corpus.users[event]] not in corpus.before[event]
        assert corpus.items[event] not in corpus.before[event]
    test = fitted.corpus(reviewed, "test")
    asker = fitted.asker(reviewed, test)
    choose = fitted.prompts_of("direct", "choose")
    rng = np.random.default_rng(0)
    places = []
    for event in range(len(test)):
        shown = asker.question(choose, event, rng).values["candidates"]
        assert len(shown) == 5 == len(set(shown)) and test.items[event] in shown
        places.append(int(np.flatnonzero(shown == test.items[event])[0]))
    assert len(set(places)) == 5


def test_events_keep_their_ratings_and_reviews(reviewed):
    log, rows = reviewed.dataset.interactions, log_rows(reviewed)
    assert (log["item"].to_numpy()[rows.train] == reviewed.train.values).all()
    assert (log["user"].to_numpy()[rows.train] == reviewed.train.rows()).all()
    assert (log["item"].to_numpy()[rows.test] == reviewed.test.targets.values).all()
    assert len(np.unique(np.concatenate([rows.train, rows.valid, rows.test]))) == log.height
    corpus = Corpus.of(reviewed, "train", 5)
    for sentence, feature, head in zip(
        corpus.sentences, corpus.features, corpus.headlines, strict=True
    ):
        assert feature in sentence.lower()
        assert not sentence or head.split()[0] in sentence or "paint" in sentence


def test_every_family_is_measured_in_seen_and_unseen_words(fitted, reviewed):
    figures = family_figures(fitted, reviewed)
    for family in ("rating", "sequential", "explanation", "review", "direct"):
        assert set(figures[family]) >= {"seen", "unseen"}
    simple = figures["rating"]["simple"]
    assert figures["rating"]["seen"]["star"]["mae"] < 1.7  # stars are two or five
    assert simple["biases"]["rmse"] < simple["mean"]["rmse"] * 0.7  # and the item's alone
    assert figures["explanation"]["seen"]["explain"]["rouge1"] > 0.3  # the sentence is a template
    assert 0 < figures["sequential"]["seen"]["choose"]["recall@1"] <= 1


def test_the_trie_leaves_no_invalid_answer(small_split):
    model = p5(index={"method": "title"}, train={**QUICK, "epochs": 1, "valid_every": 1})
    figures = name_figures(model.fit(small_split), small_split)
    assert figures["invalid_with_trie"] == 0 < figures["invalid_without_trie"]


def test_new_items_are_spelled(fitted, reviewed):
    new = pl.DataFrame({"item_id": ["new-1", "new-2"], "title": ["paint number 7", None]})
    catalogue = reviewed.dataset.items
    model = p5(encoder={"name": "tfidf", "dim": 8, "min_df": 1}).fit(reviewed)
    more = model.extend(catalogue, new)
    assert more.score(Requests.of(reviewed.test)).shape[1] == catalogue.height + 2
    apart = model.extend(catalogue, new[:1]).extend(catalogue, new[1:])
    assert apart.titles == more.titles == [*model.titles, "paint number 7", "new-2"]
    assert model.score(Requests.of(reviewed.test)).shape[1] == catalogue.height


def test_a_checkpoint_of_the_users_is_the_start(fitted, reviewed, tmp_path):
    from transformers import PreTrainedTokenizerFast

    fitted.module.t5.save_pretrained(tmp_path)
    kit = PreTrainedTokenizerFast(
        tokenizer_object=fitted.vocabulary.tokenizer, pad_token="<pad>", eos_token="</s>"
    )
    kit.save_pretrained(tmp_path)
    model = p5(checkpoint=str(tmp_path), train={**QUICK, "epochs": 1, "lr": 1e-9, "valid_every": 1})
    model.fit(reviewed)
    known = fitted.vocabulary.base
    table = model.module.t5.shared.weight[:known], fitted.module.t5.shared.weight[:known]
    torch.testing.assert_close(*table, rtol=1e-4, atol=1e-4)
    other = tmp_path / "other"
    with pytest.raises(OnomaError, match="no transformers folder"):
        p5(checkpoint=str(other)).fit(reviewed)
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(OnomaError, match="T5"):
        p5(checkpoint=str(other)).fit(reviewed)


def test_collections_are_checked(tmp_path):
    assert {p.family for p in collection("p5")} == {
        "rating", "sequential", "explanation", "review", "direct",
    }  # fmt: skip
    for family in ("rating", "sequential", "explanation", "review", "direct"):
        kinds = [(p.held, p.ask) for p in collection("p5") if p.family == family]
        assert any(held for held, _ in kinds) and len(set(kinds)) == len(kinds)
    wrong = tmp_path / "mine.yaml"
    wrong.write_text("sequential: [{ask: 'what {item', answer: x, kind: next}]")
    with pytest.raises(OnomaError, match="template"):
        collection(str(wrong))
    with pytest.raises(OnomaError, match="no prompts"):
        p5(families={"cooking": 1})


def test_figures_of_texts_and_stars():
    same = text_figures(["the cat sat on the mat"], ["the cat sat on the mat"])
    assert same == {} or (same["bleu"] > 99.9 and same["rougeL"] == 1)
    assert coverage(["A Red hat", "none"], ["red", "blue"]) == 0.5
    assert star_figures(np.array([1.0, 5.0]), np.array([2.0, 3.0])) == {
        "rmse": pytest.approx(np.sqrt(2.5)), "mae": 1.5,
    }  # fmt: skip
    users, items = np.repeat(np.arange(30), 20), np.tile(np.arange(20), 30)
    stars = 3 + (users % 3 - 1) + 0.5 * (items % 2)
    found = Biases(users, items, stars, 30, 20)(users, items)
    assert star_figures(found, stars)["rmse"] < 0.3 < star_figures(np.full(600, 3.2), stars)["rmse"]


def test_low_rank_updates_leave_the_checkpoint_as_it_is(aligned, reviewed, tmp_path):
    from transformers import PreTrainedTokenizerFast

    aligned.module.lm.save_pretrained(tmp_path)
    kit = PreTrainedTokenizerFast(
        tokenizer_object=aligned.vocabulary.tokenizer, pad_token="<pad>", eos_token="</s>"
    )
    kit.save_pretrained(tmp_path)
    train = {**QUICK, "epochs": 2, "valid_every": 2}
    lora = {"rank": 2, "dropout": 0.0}
    model = lcrec(checkpoint=str(tmp_path), lora=lora, train=train).fit(reviewed)
    was = aligned.module.lm.model.layers[0].self_attn.q_proj.weight
    tuned = model.module.lm.model.layers[0].self_attn.q_proj
    assert torch.equal(tuned.base_layer.weight, was)
    assert tuned.lora_B["default"].weight.abs().max() > 0
    assert model.module.new.weight.requires_grad
    model.save(tmp_path / "run")
    again = LCRec.load(tmp_path / "run", reviewed.dataset)
    requests = Requests.of(reviewed.test)
    torch.testing.assert_close(again.score(requests), model.score(requests), rtol=0.02, atol=0.1)
    again.save(tmp_path / "again")
    for name in ("adapter_model.safetensors", "tokens.safetensors", "README.md"):
        was, kept = (tmp_path / run / "adapter" / name for run in ("run", "again"))
        if name != "README.md":
            assert was.read_bytes() == kept.read_bytes()
        else:
            assert "hash of its files" in was.read_text() and "epochs" in was.read_text()
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    read = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path), tmp_path / "run" / "adapter"
    )
    there = read.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight
    assert torch.equal(there, tuned.lora_B["default"].weight)


def test_preferences_speak_of_the_past_alone(reviewed):
    corpus = Corpus.of(reviewed, "test", 5)
    log = reviewed.dataset.interactions
    colour = log["review_title"].str.split(" ").list.first()
    for event, said in enumerate(corpus.preferences):
        mine = log["user"].to_numpy() == corpus.users[event]
        past = {colour[int(row)] for row in np.flatnonzero(mine)[:-1]}
        now = colour[int(np.flatnonzero(mine)[-1])]
        told = " ".join(said)
        assert said
        assert now in past or now not in told
        assert ("avoids" in told) <= (log["rating"].to_numpy()[mine].min() < 3)
    assert Corpus.of(reviewed, "train", 5).preferences[0] == []


def test_blanks_never_cut_an_entity():
    rng = np.random.default_rng(0)
    sizes = [4, 3, 1, 5, 2, 3, 6]
    whole = [False, True, False, True, False, True, False]
    record = [
        Piece(np.arange(n, dtype=np.int32), np.zeros(n, np.int32), w)
        for n, w in zip(sizes, whole, strict=True)
    ]
    ends = np.cumsum(sizes)
    entities = [(e - n, e) for n, e, w in zip(sizes, ends, whole, strict=True) if w]
    cut = masked = 0
    for _ in range(300):
        for keep in (True, False):
            found = spans(record, rng, 8, keep, target=5)
            assert found[-1] == entities[-1]  # the target is the last blank
            assert all(a[1] < b[0] for a, b in zip(found, found[1:], strict=False))
            if keep:
                masked += sum(stop - start for start, stop in found)
            for start, stop in found:
                for left, right in entities:
                    part = max(0, min(stop, right) - max(start, left))
                    if keep:
                        assert part in (0, right - left)
                    cut += 0 < part < right - left
    assert cut > 0 and 0.15 < masked / 300 / sum(sizes) < 0.45


def test_blanks_hold_what_was_taken_out():
    tokens, words = np.arange(10, dtype=np.int32), np.arange(1, 11, dtype=np.int32)
    ask, of, answer = blanked(tokens, words, [(2, 4), (7, 10)], [100, 101])
    assert ask.tolist() == [0, 1, 100, 4, 5, 6, 101] and of.tolist() == [1, 2, 3, 5, 6, 7, 8]
    assert answer.tolist() == [100, 2, 3, 101, 7, 8, 9]


def test_records_are_trained_on(reviewed):
    train = {**QUICK, "epochs": 2, "valid_every": 2}
    families = {"blank": 2, "sequential": 1}
    model = small(RecSysLLM, families=families, train=train).fit(reviewed)
    mixture = Mixture(model, reviewed)
    asked = [q for b in mixture.plan(0, 0) for q in mixture.questions(b)]
    records = [q for q in asked if q.written]
    assert records and len(records) < len(asked)
    for question in records:
        ask, words, answer = question.written
        assert ask.shape == words.shape
        blanks = [t for t in ask if t in model.vocabulary.blanks]
        assert blanks == [t for t in answer if t in model.vocabulary.blanks] and blanks
        if "history" in question.prompt.fields:
            name = model.spelling.tokens[question.values["item"][0]]
            assert answer[-1] == name[0]
    assert BLANK not in family_figures(model, reviewed)


def test_a_preference_changes_the_answer(reviewed):
    model = small(Mender).fit(reviewed)
    requests = Requests.of(reviewed.test).slice(0, 5)
    plain = model.recommend(requests, 10)
    none = model.preferring(requests, [""] * 5)
    assert np.array_equal(plain.items, none)
    wish = model.recommend(replace(requests, query=["looks for crimson"] * 5), 10)
    assert not np.array_equal(wish.scores, plain.scores)
    figures = preference_figures(model, reviewed)
    assert figures["events"] > 0 and set(figures) >= {"recommendation", "fine", "coarse"}
    assert set(figures["recommendation"]) >= {"oracle", "latest", "none", "another user's"}


def test_preferences_turn_and_the_nearest_is_picked():
    said = ["looks for red, cups", "avoids blue, plates"]
    assert nearest(said, ["plates"]) == "looks for blue, plates"
    assert nearest(said, ["cups"]) == said[0] == nearest(said, ["nothing"])
    assert turned(turned(said[1])) == said[1] and turned(said[0]) == "avoids red, cups"
    assert nearest([], ["cups"]) == ""
