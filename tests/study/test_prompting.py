"""What a language model is worth, measured on models that do what the test says."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset, Ragged, split
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.language.base import language_model
from onoma.recommenders.language.titles import Titles
from onoma.study.prompting import prompting
from onoma.study.prompting_lists import Arm
from onoma.study.prompting_probes import again, memory, order
from onoma.study.prompting_words import ratings, sentences
from onoma.study.rating_sheet import read_sheets, write_sheets

sys.path.insert(0, str(Path(__file__).parents[1] / "recommenders"))
from scripted import service, spec  # noqa: E402

pytest.importorskip("openai")
pytest.importorskip("rapidfuzz")
HOSTILE = "<script>alert(1)</script>"
N_ITEMS = 140


def rated(user: int, step: int, last: int) -> float:
    """Everybody has a rating of their own, and another one for the test item."""
    own = 1 + user % 5
    return float(own if step < last else 6 - own)


@pytest.fixture(scope="module")
def films() -> Dataset:
    rng = np.random.default_rng(0)
    rows = []
    for user in range(30):
        bag = rng.permutation(N_ITEMS)[:8].tolist()
        for step, item in enumerate(bag):
            rows.append({
                "user_id": f"u{user}", "item_id": f"{item:03}", "timestamp": step,
                "rating": rated(user, step, len(bag) - 1),
                "review_title": f"Good film {item}",
                "review_text": f"The actors of number {item} are good. I liked it very much.",
            })  # fmt: skip
    titles = [f"Film {chr(65 + i % 26)}{'aeiou'[i // 26 % 5]}x (1990)" for i in range(N_ITEMS)]
    titles[0] = f"{HOSTILE} (1990)"
    catalogue = pl.DataFrame({"item_id": [f"{i:03}" for i in range(N_ITEMS)], "title": titles})
    return Dataset.construct(pl.DataFrame(rows), catalogue, name="films")


def test_ratings_tell_what_earlier_ratings_add(films):
    asked = []

    def answer(text: str) -> str:
        asked.append(text)
        given = re.findall(r"^(\d)$", text, re.M)
        return json.dumps({"answer": given[-1] if given else "3"})

    parts = split(films)
    with service(answer) as running:
        language = language_model(spec(running))
        found = ratings(language, parts, domain="movies", cases=20, shots=3)
    assert found["cases"] == 20 and len(asked) == 40
    drawn = [text for text in asked if re.findall(r"^(\d)$", text, re.M)]
    told = [re.findall(r"^(\d)$", text, re.M) for text in drawn]
    # Three of the user's own before the target; the target's own rating is another one.
    assert all(len(rows) == 3 and len(set(rows)) == 1 for rows in told)
    errors = np.array([abs(6 - 2 * int(rows[0])) for rows in told], dtype=float)
    few = found["few-shot"]["expected"]["rmse"]["mean"]
    assert few == pytest.approx(np.sqrt((errors**2).mean()))
    alone = np.array([abs(6 - int(rows[0]) - 3) for rows in told], dtype=float)
    zero = found["zero-shot"]["most_probable"]["mae"]["mean"]
    assert zero == pytest.approx(alone.mean())
    rmse = found["zero-shot"]["expected"]["rmse"]["mean"]
    assert found["gain"] == pytest.approx(1 - few / rmse)
    assert found["user's mean"]["expected"]["rmse"]["mean"] == pytest.approx(few)


def test_a_rating_that_does_not_come_is_an_error(films):
    with service(lambda text: "no idea") as running:
        found = ratings(
            language_model(spec(running)), split(films), domain="movies", cases=10
        )  # fmt: skip
    figures = found["zero-shot"]["expected"]
    assert figures["parsed"] == 0 and found["answers"]["zero-shot"] == {"malformed": 10}
    assert figures["mae"]["mean"] >= 2  # at least half of the scale for each of them


@pytest.mark.parametrize("knows", [True, False])
def test_a_model_that_knows_the_files_is_found_out(films, knows):
    titles = dict(zip(films.item_ids, films.titles(np.arange(N_ITEMS)), strict=True))

    def answer(text: str) -> str:
        number = re.search(r"title of number (\d+)", text)[1]
        return titles[number] if knows else "Film Zzz (1950)"

    def chosen(text: str) -> str:
        # The service is asked twice a question: freely, then among ten.
        number = re.search(r"title of number (\d+)", text)[1]
        return json.dumps({"answer": titles[number]}) if knows else json.dumps({"answer": "x"})

    with service(answer) as running:
        found = memory(language_model(spec(running)), films, cases=6)
    assert found["recalled"] == float(knows) and found["contaminated"] is knows
    with service(chosen) as running:
        found = memory(language_model(spec(running)), films, cases=6)
    # Another item's number leads to a title that is not among the ten: no answer.
    assert found["chosen"] == float(knows) and found["chosen_by_wrong_number"] == 0
    assert found["gain"]["low"] == float(knows)


@pytest.mark.parametrize("cares", [True, False])
def test_a_model_that_cares_for_order_is_found_out(films, cares):
    parts = split(films)
    titles = films.titles(np.arange(N_ITEMS))

    def answer(text: str) -> str:
        told = [line[2:] for line in text.split("\n") if line.startswith("- ")]
        at = titles.index(told[-1] if cares else min(told))
        return "\n".join(f"{n}. {titles[(at + n) % N_ITEMS]}" for n in (1, 2, 3))

    cases = parts.test.take(np.arange(12))
    with service(answer) as running:
        model = Titles(model=spec(running), prompt="next-titles", wanted=3).fit(parts)
        arm = Arm("titles", model, Requests.of(cases), "named")
        row = order([arm], cases.targets)[0]
        twice = again(spec(running), arm, parts, cases=3)
    assert (row["identical"] == 1) is not cares
    assert cares == (row["overlap"] < 0.5)
    assert twice["cases"] == 3 and twice["identical"] == 1


def test_sheets_hide_who_wrote_what_and_come_back(tmp_path):
    samples = [
        {"task": "explanation", "case": case, "source": source, "item": "=cmd()", "rating": "5",
         "about": "", "text": f"{source[0]}-{case}"}
        for case in range(8)
        for source in ("model", "user", "copy")
    ]  # fmt: skip
    write_sheets(samples, tmp_path)
    sheets = []
    for rater in (1, 2):
        path = tmp_path / f"sheet-{rater}.csv"
        text = path.read_text("utf-8")
        assert "user" not in text and "model" not in text and ",=cmd" not in text
        sheets.append(list(csv.DictReader(text.splitlines())))
    orders = {tuple(r["wording"][0] for r in sheets[0][i : i + 3]) for i in range(0, 24, 3)}
    assert len(orders) > 1 and sheets[0] != sheets[1]
    best = {"u": 1, "m": 2, "c": 3}
    for rater, rows in enumerate(sheets, 1):
        for row in rows:
            row["rank"] = str(best[row["wording"][0]])
        with (tmp_path / f"sheet-{rater}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    found = read_sheets(tmp_path)
    means = {source: row["mean"] for source, row in found["ranks"]["explanation"].items()}
    assert means == {"user": 1, "model": 2, "copy": 3}
    assert found["agreement"] == pytest.approx(1)
    rows = (tmp_path / "sheet-1.csv").read_text("utf-8").replace(",1,", ",best,", 1)
    (tmp_path / "sheet-1.csv").write_text(rows, "utf-8")
    with pytest.raises(OnomaError, match="best"):
        read_sheets(tmp_path)


def test_the_whole_study_tells_figures_and_cost(films, tmp_path):
    titles = films.titles(np.arange(N_ITEMS))

    def answer(text: str) -> str:
        if "one digit" in text:
            return json.dumps({"answer": "4"})
        if "as they are written above" in text:
            shown = [line[2:] for line in text.split("Choose ")[1].split("\n") if line[:2] == "- "]
            return json.dumps({"items": sorted(shown)[: min(10, len(shown))]})
        if "numbered from 1" in text:
            return "\n".join(f"{n}. {title}" for n, title in enumerate(titles[:10], 1))
        return f"Good. {HOSTILE}"

    films.save(tmp_path / "films")
    with service(answer) as running:
        result = prompting(
            str(tmp_path / "films"), tmp_path / "out", model=spec(running), cases=4, rated=6
        )  # fmt: skip
    assert json.loads((tmp_path / "out" / "prompting.json").read_text("utf-8")) == result
    page = (tmp_path / "out" / "prompting.html").read_text("utf-8")
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert set(result["lists"]) == {
        "free", "given", "neighbours", "cold", "sequential", "direct"
    }  # fmt: skip
    named = {row["name"]: row for row in result["lists"]["free"]}["titles, as named"]
    assert named["beyond"]["retrieved@50"] <= 10 and named["answers"]["named"] > 0
    for rows in result["lists"].values():
        assert all(row["invalid_items"] == 0 for row in rows)
        assert all(0 <= row["against"]["wilcoxon"] <= 1 for row in rows if "against" in row)
    # Users of whom three ratings are known are told of by these three, and get nothing they had.
    assert result["cost"]["lists"]["calls"] > 0
    assert result["texts"]["summary"]["cases"] == 4 and (tmp_path / "out/sheet-2.csv").exists()
    holds = {row["asked"]: row["holds"] for row in result["acceptance"]}
    assert holds["at least 98% of ratings parsed, the others errors"] is True
    assert len(holds) == 4 and None not in holds.values()


def test_what_is_asked_again_is_paid_again(films, tmp_path):
    titles, asked = films.titles(np.arange(N_ITEMS)), []

    def answer(text: str) -> str:
        asked.append(text)
        return "\n".join(f"{n}. {title}" for n, title in enumerate(titles[:10], 1))

    films.save(tmp_path / "films")
    with service(answer) as running:
        kept = spec(running, cache=True)
        result = prompting(
            str(tmp_path / "films"), tmp_path / "out", model=kept, cases=4, parts=("again",)
        )  # fmt: skip
    assert result["cost"]["again"]["calls"] == len(asked) == 8


def test_unknown_parts_are_refused_and_texts_end_at_a_sentence(films, tmp_path):
    films.save(tmp_path / "films")
    with pytest.raises(OnomaError, match="no part is called 'rating'"):
        prompting(str(tmp_path / "films"), tmp_path, parts=("rating",))
    assert sentences("It is good. It is v") == "It is good."
    assert sentences("half a sent") == ""


def test_shuffles_keep_every_history():
    from onoma.study.prompting_lists import shuffled

    requests = Requests(Ragged.from_rows([[3, 1, 2], [], [9, 8]]))
    mixed = shuffled(requests, seed=1)
    for row in range(3):
        assert sorted(mixed.history[row]) == sorted(requests.history[row])
    assert requests.history.values.tolist() == [3, 1, 2, 9, 8]
