"""Grounding: a title is found however it is written, and no other item ever stands for it."""

import re
import string
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.language.grounding import Counts, Grounded, Grounder
from onoma.language.spelling import spelling

FILMS = [
    "Heat (1995)", "Toy Story (1995)", "Toy Story 2 (1999)", "Alien (1979)", "Aliens (1986)",
    "Alien³ (1992)", "Good, the Bad and the Ugly, The (1966)", "Sabrina (1954)", "Sabrina (1995)",
    "Star Wars: Episode V - The Empire Strikes Back (1980)", "Godfather: Part II, The (1974)",
    "Seven (a.k.a. Se7en) (1995)", "Rocky (II)", "E.T. the Extra-Terrestrial (1982)", "M*A*S*H",
    "20,000 Leagues Under the Sea (1954)", "C++", "C#", "C", "$", "🎬", "...", "Amélie (2001)",
    "Avventura, L' (1960)", "Spider-Man (2002)", "Shawshank Redemption, The (1994)", "Twins",
    "twins", "Malcolm X (1992)", "हिन्दी फ़िल्म", "Vitamin C Serum with Hyaluronic Acid",
    "Shampoo (12 oz)", "Nail Art Image Plate (C) by Cheeky", "Sigma Eye Shadow Palette - Night",
    "Godzilla (Gojira) (1954)", "Godzilla (1998)", "", " ",
]  # fmt: skip
WORDS = ["night", "river", "golden", "dragon", "harbour", "silent", "garden", "winter", "machine"]
ROMAN = ["0", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
NUMBER = "zero one two three four five six seven eight nine ten eleven twelve".split()


@cache
def _films():
    return Grounder(FILMS)


@pytest.fixture
def films():
    return _films()


def row(grounder, text):
    return grounder.ground([text])[0].row


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("heat", "Heat (1995)"),
        ("The Good, the Bad & the Ugly", "Good, the Bad and the Ugly, The (1966)"),
        ("Good, the Bad and the Ugly (1966)", "Good, the Bad and the Ugly, The (1966)"),
        ("STAR WARS Episode 5: the empire strikes back", FILMS[9]),
        ("The Godfather Part Two", "Godfather: Part II, The (1974)"),
        ("Godfather 2", "Godfather: Part II, The (1974)"),
        ("Se7en [1995]", "Seven (a.k.a. Se7en) (1995)"),
        ("Seven", "Seven (a.k.a. Se7en) (1995)"),
        ("Rocky 2", "Rocky (II)"),
        ("ET: The Extra Terrestrial", "E.T. the Extra-Terrestrial (1982)"),
        ("MASH (1970)", "M*A*S*H"),
        ("20000 leagues under the sea", "20,000 Leagues Under the Sea (1954)"),
        ("Alien 3", "Alien³ (1992)"),
        ("Sabrina (1995–)", "Sabrina (1995)"),
        ("Amelie", "Amélie (2001)"),
        ("L’avventura", "Avventura, L' (1960)"),
        ("Spiderman", "Spider-Man (2002)"),
        ("twins", "Twins"),  # one title twice: the first
        ("Nail Art Image Plate by Cheeky", "Nail Art Image Plate (C) by Cheeky"),
        ("Spider-Man (with Tobey Maguire)", "Spider-Man (2002)"),
        ("Malcolm X", "Malcolm X (1992)"),
    ],
)
def test_ways_to_write_a_title(films, text, title):
    assert films.ground([text]) == [Grounded(FILMS.index(title), "exact", 1.0)]


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "()", "The", "Ronin", "Heat (1986)", "Sabrina", "Toy Story 3", "Toy Story (1999)",
        "Rocky", "Rocky III", "The Godfather", "Star Wars", "Alien 4", "C+", "20 Leagues",
        "Twin", "Vitamin E Serum with Hyaluronic Acid", "Shampoo", "Shampoo (16 oz)", "12",
        "Seven Samurai", "The Shawshank Redemption 2", "a.k.a. Se7en 2", "Star Wars: Episode VI - "
        "The Empire Strikes Back", "The Shawshank Redemptions", "Godzilla (Mothra)",
        "Nail Art Image Plate (A) by Cheeky", "Nail Art Image Plate (B) by Cheeky",
        "Nail Art Imagee Plate (B) by Cheeky", "Sigma Eye Shadow Palette - Light",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(films, text):
    assert films.ground([text]) == [Grounded(-1, "none", 0.0)]


def test_typing_errors(films):
    for text, how in {
        "The Shawshank Redemtion (1994)": "fuzzy",
        "Shawshank Redepmtion": "fuzzy",
        "Twenty Thousand Leagues Under the Sea": "none",  # other numerals
        "Vitamin C Serum Hyaluronic Acid": "none",  # a word less
        "20,000 Leages Under the Sea": "fuzzy",
        "20,000 Leagues Underthe Sea": "exact",
        "20,000 Leagues Un der the Sea at": "fuzzy",
        "20,000 Lea gues Unders the Sea": "none",
    }.items():
        (found,) = films.ground([text])
        assert found.how == how and (found.score >= 0.9 or how == "none"), text
        assert found.row in (-1, FILMS.index("Shawshank Redemption, The (1994)"), 15)


TITLE = st.text(
    st.characters(codec="utf-8") | st.sampled_from("$ '-:,.!?&0123456789aeiou…🎬é"), min_size=1
).filter(str.strip)


@given(titles=st.lists(TITLE, min_size=1, max_size=6), data=st.data())
def test_a_title_grounds_to_itself(titles, data):
    place = data.draw(st.integers(0, len(titles) - 1))
    title = titles[place]
    grounder = Grounder(titles)
    ways = {title, f"  {title}\n"}
    ways |= {way for way in (title.upper(), title.lower()) if way.casefold() == title.casefold()}
    for way in ways:
        found = row(grounder, way)
        assert found >= 0, way
        assert spelling(titles[found]).raw == spelling(title).raw
    assert found <= place  # of equal titles the first


@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    article=st.sampled_from(["The", "A", "An", ""]),
    year=st.sampled_from([1931, 1999, 0]),
    data=st.data(),
)
def test_articles_and_years_of_a_title_may_move(words, article, year, data):
    name = " ".join(words).title()
    front = f"{article} {name}".strip()
    ways = [front, f"{name}, {article}" if article else name]
    ways += [f"{way} ({year})" for way in ways if year] + [way.upper() for way in ways]
    grounder = Grounder(["Zebra crossing", data.draw(st.sampled_from(ways)), "Xylophone"])
    for way in ways:
        assert row(grounder, way) == 1
        if year:
            with_year = Grounder([f"{front} ({year})"])
            assert row(with_year, re.sub(r" \(\d+\)$", "", way) + f" ({year + 1})") == -1


@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True),
    there=st.integers(0, 12),
    asked=st.integers(0, 12),
    form=st.sampled_from(["{} {}", "{}: Part {}", "{} ({})", "{} {}: The Return", "Part {1}: {0}"]),
    data=st.data(),
)
def test_sequels_never_stand_for_each_other(words, there, asked, form, data):
    name = " ".join(words)
    written = [str(asked), NUMBER[asked], ROMAN[asked] if asked else "0"]
    grounder = Grounder([form.format(name, there)])
    found = row(grounder, form.format(name, data.draw(st.sampled_from(written))))
    assert found == (0 if there == asked else -1)
    assert row(grounder, name) == -1
    assert row(Grounder([name]), form.format(name, asked)) == -1


@settings(max_examples=50)
@given(texts=st.lists(st.text(string.ascii_letters + " ", max_size=30), max_size=8))
def test_what_is_far_from_every_title_is_none(texts):
    titles = ["0123456789 " * 3, "##########", "日本語の映画"]
    for found in Grounder(titles).ground(texts):
        assert found == Grounded()


@given(st.integers(0, 10**6), st.sampled_from(["drop", "swap", "double"]))
def test_a_typing_error_never_leads_elsewhere(seed, error):
    rng = np.random.default_rng(seed)
    titles = [" ".join(rng.choice(WORDS, 3)) for _ in range(30)]
    title = titles[int(rng.integers(30))]
    at = int(rng.integers(len(title) - 1))
    text = {
        "drop": title[:at] + title[at + 1 :],
        "swap": title[:at] + title[at + 1] + title[at] + title[at + 2 :],
        "double": title[:at] + title[at] + title[at:],
    }[error]
    (found,) = Grounder(titles).ground([text])
    assert found.row == -1 or titles[found.row] == title
    first, last = at == 0 or title[at - 1] == " ", title[at + 1 :][:1] in ("", " ")
    if not first and not last and title[at] != " ":
        assert found.how in ("fuzzy", "exact")


def trigrams(texts):
    """Unit vectors of hashed letter trigrams."""
    out = np.zeros((len(texts), 512), dtype=np.float32)
    for place, text in enumerate(texts):
        padded = f"  {text.casefold()}  "
        for at in range(len(padded) - 2):
            out[place, sum(ord(c) * 31**i for i, c in enumerate(padded[at : at + 3])) % 512] += 1
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def test_meaning_comes_last_and_is_held_to_numerals_and_years():
    asked = []

    def embed(texts):
        asked.append(list(texts))
        return trigrams(texts)

    titles = ["Dr. Strangelove or How I Learned to Worry (1964)", "Rocky III", "Heat"]
    grounder = Grounder(titles, embed=embed, dense=0.6)
    assert grounder.ground(["heat", "ROCKY 3"]) == [Grounded(1 + n, "exact", 1.0) for n in (1, 0)]
    assert asked == []  # nobody needed it
    found = grounder.ground(["Dr. Strangelove or How I Learned to Stop Worrying", "Ronin"])
    assert (found[0].row, found[0].how, found[1].how) == (0, "dense", "none")
    assert 0.6 <= found[0].score <= 1
    none = [
        "Dr. Strangelove or How I Learned to Stop Worrying (1999)",
        "Rocky IIII",
        "Rocky IV",
        "",
    ]
    assert {one.how for one in grounder.ground(none)} == {"none"}
    assert asked[0] == titles and len(asked) <= 4


def test_counts(films):
    texts = ["Heat", "heat (1995)", "Ronin", "The Shawshank Redemtion", "Aliens", "ALIENS", ""]
    rows, counts = films.take(texts)
    assert [FILMS[row] for row in rows] == [FILMS[0], "Shawshank Redemption, The (1994)", FILMS[4]]
    assert counts == Counts(exact=4, fuzzy=1, rejected=2, repeated=2)
    assert counts.texts == len(texts) and counts + counts == Counts(8, 2, 0, 4, 4)
    assert str(counts) == "grounded 4 exact, 1 fuzzy, 0 dense; 2 rejected, 2 repeated"
    assert films.take([]) == ([], Counts())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Sure, here you go:\n\n1. Heat (1995)\n2) **Alien** (1979) - a classic\n 3. Ronin\nEnjoy!",
         ["Heat (1995)", "Alien (1979)", "Ronin"]),
        ("- “Heat” (1995)\n* _Alien_\n• Ronin", ["Heat (1995)", "Alien", "Ronin"]),
        ("1. **Heat**\n   - Genre: crime\n   - Why: tense\n2. Ronin\n* A chase", ["Heat", "Ronin"]),
        (" 9. Heat\n    * tense\n10. Ronin", ["Heat", "Ronin"]),
        ("- Heat\n  - tense\n    1. dark\n- Ronin\n  + fast", ["Heat", "Ronin"]),
        ("1. Crime:\n   - Heat\n   - Ronin\n2. Horror:\n   - Alien", ["Heat", "Ronin", "Alien"]),
        ("1. **Heat**:\n   - tense\n2. Ronin:\n   - fast", ["Heat", "Ronin:"]),
        ("- Heat\n - Alien\n   - old\n - Ronin", ["Heat", "Alien", "Ronin"]),
        ("A. Heat\nB. Alien", ["Heat", "Alien"]),
        ("Here are some:\nHeat\n12 Angry Men\n2001: A Space Odyssey",
         ["Heat", "12 Angry Men", "2001: A Space Odyssey"]),
        ('["Heat", "Good, the Bad"]', ["Heat", "Good, the Bad"]),
        ('Of course:\n```json\n{"items": [{"title": "Heat", "why": "x"}, {"name": "Alien"}]}\n```',
         ["Heat", "Alien"]),
        ('["Heat", "Alien", "Ron', ["Heat", "Alien"]),
        ('[\n  "Heat",\n  "Alien",\n  "Ron', ["Heat", "Alien", '"Ron']),
        ("1. Heat 2. Alien 3. Ronin", ["Heat", "Alien", "Ronin"]),
        ("Heat, Alien and Aliens.", ["Heat", "Alien", "Aliens"]),
        ("Heat, The Good, the Bad and the Ugly, and Ronin",
         ["Heat", "The Good, the Bad and the Ugly", "Ronin"]),
        ("Heat; Alien; Good, the Bad and the Ugly, The",
         ["Heat", "Alien", "Good, the Bad and the Ugly, The"]),
        ("The Good, the Bad and the Ugly", ["The Good, the Bad and the Ugly"]),
        ("I would pick \"Heat\" (1995) or 'nothing'", ["Heat (1995)"]),
        ("You may like “Ronin”, “Collateral (2004)” and “Thief”.",
         ["Ronin", "Collateral (2004)", "Thief"]),
        ("Heat (1995), a thriller", ["Heat (1995)", "a thriller"]),
        ("M. Butterfly", ["M. Butterfly"]),
        ("[1, 2, 3]", []),
        ("", []),
        ("\n \n", []),
    ],
)  # fmt: skip
def test_answers_are_cut_into_mentions(films, text, found):
    if text == "[1, 2, 3]":
        assert films.take(films.lines(text))[0] == []
    else:
        assert films.lines(text) == found


@given(st.text())
def test_any_answer_can_be_cut(text):
    films = _films()
    found = films.lines(text)
    assert all(one.strip() and "\n" not in one for one in found)
    rows, counts = films.take(found)
    assert counts.texts == len(found) and len(rows) == len(set(rows))


LISTED = [row for row, title in enumerate(FILMS) if title.strip(" .") and title != "twins"]


@given(st.lists(st.sampled_from(LISTED), unique=True, min_size=2, max_size=12))
def test_lists_of_titles_are_read_back(rows):
    films = _films()
    for mark in ("{n}. {t}", "- {t}", "{n}) **{t}**"):
        text = "\n".join(mark.format(n=n, t=FILMS[row]) for n, row in enumerate(rows, 1))
        assert films.take(films.lines(f"Here you are:\n{text}\nEnjoy!"))[0] == rows


def test_every_film_of_movielens_grounds_to_itself(data_folder):
    frame = pl.read_parquet(data_folder / "movielens-1m" / "items.parquet")
    titles = frame["title"].to_list()
    grounder = Grounder(titles)
    assert grounder.take(titles) == (list(range(len(titles))), Counts(exact=len(titles)))
    plain = [re.sub(r" \(\d{4}\)$", "", title) for title in titles]
    found = grounder.ground(plain)
    assert all(one.row in (-1, row) for row, one in enumerate(found))
    # Without the year 80 titles are those of several films.
    assert Counts.of(found) == Counts(exact=3803, rejected=80)
