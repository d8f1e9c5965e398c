"""Profiles: what is noted, what stays and why, and who is told by titles alone."""

import numpy as np
import pytest
from prompted import PromptedConformance, tiny_model

from onoma.language import BadAnswer, Completion, LanguageModel
from onoma.recommenders.language.memory import (
    Entry,
    Memory,
    Profile,
    Review,
    by_rule,
    duplicates,
)
from onoma.recommenders.language.profile import ProfileRanker, whole

pytest.importorskip("transformers")


class TestProfileRanker(PromptedConformance):
    def make(self):
        return ProfileRanker(model=tiny_model(), shortlist=2, recent=2)


class Says(LanguageModel):
    """One who answers what the test wants, to see what becomes of it."""

    identity = "says"

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.asked = list(answers), []

    def complete(self, messages, *, schema=None, tools=None, decoding=None):
        self.asked.append((messages, schema))
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise BadAnswer(answer, f"it is {answer}", where="says", text="{")
        return Completion("", answer)


def embed(texts):
    """Unit vectors: the same first word is the same direction, any other is at a right angle."""
    return np.eye(97, dtype=np.float32)[[sum(map(ord, text.split()[0])) % 97 for text in texts]]


REVIEW = Review("Rose soap", "Smells of roses. The box was broken!", 4.0, source=7)
NOTED = {"likes": ["rose scent", " rose scent. "], "dislikes": ["broken box"], "features": []}


def test_a_bad_answer_is_asked_for_again_with_the_reason_then_the_rule_notes():
    says = Says("malformed", NOTED, "cut", "timeout")
    memory = Memory(says, embed)
    first, counts = memory.read(Profile(), REVIEW)
    assert [one.text for one in first.likes] == ["rose scent"]
    assert first.dislikes == (Entry("broken box", 1, 1.0, (7,)),)
    assert "it is malformed" in says.asked[1][0][-1]["content"]
    assert +counts == {"extracted": 1, "extract rejected: malformed": 1, "extract tried again": 1}
    second, counts = memory.read(Profile(), REVIEW)
    assert counts["extract by rule"] == 1
    assert [one.text for one in second.dislikes] == ["box"]
    assert [one.text for one in second.likes] == ["rose"]
    assert [one.text for one in second.features] == ["rose soap"]


def test_two_stars_or_fewer_are_against_everything():
    found = by_rule(Review("Soap", "Lavender oil. Green box.", 1.0))
    assert found["likes"] == [] and found["dislikes"] == ["lavender oil", "green box"]


def test_near_duplicates_are_one_newer_evidence_wins_and_caps_hold():
    memory = Memory(Says(), embed, cap=2)
    profile = Profile(
        likes=(Entry("rose old", 1, 1.0, (1,)), Entry("mint", 2, 1.0, (2,)),
               Entry("rose new", 4, 1.0, (4,)), Entry("box", 1, 1.0, (1,)),
               Entry("lid", 5, 1.0, (5,))),
        dislikes=(Entry("box again", 3, 1.0, (3,)),),
        read=5,
    )  # fmt: skip
    tidy = memory.tidy(profile)
    assert tidy.likes == (Entry("rose new", 4, 2.0, (1, 4)), Entry("lid", 5, 1.0, (5,)))
    assert [one.text for one in tidy.dislikes] == ["box again"]
    assert set(tidy.dropped) == {
        ("rose old", "said twice"), ("box", "contradicted"), ("mint", "over the cap")
    }  # fmt: skip
    assert duplicates(profile, embed) == (1, 6) and duplicates(tidy, embed) == (0, 3)
    assert memory.tidy(tidy) == tidy


def test_the_updater_chooses_among_notes_and_can_make_up_none():
    noted = {"likes": ["fresh scent"], "dislikes": [], "features": []}
    says = Says(noted, {"likes": ["fresh scent", "fresh scent"]}, noted)
    old = Profile(likes=(Entry("mint", 1), Entry("lid", 1)), read=1)
    found, counts = Memory(says, embed, cap=2).read(old, REVIEW)
    assert [one.text for one in found.likes] == ["fresh scent"] and counts["update repeated"] == 1
    assert ("mint", "left out by the updater") in found.dropped
    schema = says.asked[1][1]["properties"]
    assert schema["likes"]["items"]["enum"] == ["fresh scent", "lid", "mint"]
    grown, _ = Memory(says, embed, cap=2, updater=False).read(old, REVIEW)
    assert [one.text for one in grown.likes] == ["mint", "lid", "fresh scent"]


def test_an_order_is_always_whole():
    assert whole([2, 0, 2], 4) == ([2, 0, 1, 3], 1)
