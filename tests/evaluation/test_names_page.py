import json
import re

import numpy as np
import polars as pl

from onoma.dataset import Dataset
from onoma.evaluation.names_page import names_map, names_page
from onoma.indexing import ItemIndex

HOSTILE = "</script><script>alert(1)</script>\u2028 <b>& \ud83d"


def catalogue(n, title, users=3):
    log = pl.DataFrame({"user_id": [f"u{i % users}" for i in range(n)],
                        "item_id": [f"i{i}" for i in range(n)]})  # fmt: skip
    kinds = [["Shop", "Hair" if i % 2 else "Nails", *["Wigs"] * (i % 10 == 1)] for i in range(n)]
    items = pl.DataFrame({"item_id": log["item_id"], "title": [title(i) for i in range(n)],
                          "categories": kinds})  # fmt: skip
    data = Dataset.construct(log, items, name="shop")
    kind = np.array([int(name[1:]) % 2 for name in data.items["item_id"]])
    codes = np.stack([kind, np.arange(n) // 2 % 150, np.arange(n)], axis=1).astype(np.int32)
    return ItemIndex(codes, (2, 150, n), "by hand"), data


def test_a_map_says_every_name_and_title_in_order():
    index, data = catalogue(40, lambda i: f"title {i}")
    found = names_map(index, data)
    columns = [np.repeat(runs[::2], runs[1::2]) for runs in found["codes"]]
    order = np.lexsort(index.codes.T[::-1])
    assert np.array_equal(np.stack(columns, 1), index.codes[order])
    assert found["titles"] == data.titles(order)
    first = dict(zip(found["labels"][0][::2], found["labels"][0][1::2], strict=True))
    assert {row: found["words"][word] for row, word in first.items()} == {0: "Nails", 20: "Hair"}


def test_the_page_is_escaped_and_stands_alone():
    index, data = catalogue(4, lambda i: HOSTILE.encode("utf-8", "replace").decode() + str(i))
    text = names_page(index, data)
    assert text.count("<script") == text.count("</script>") == 2
    assert "<b>&" not in text and "\u2028" not in text
    inside = re.search(r'class="names-data">(.*?)</script>', text, re.DOTALL).group(1)
    assert sorted(json.loads(inside)["titles"]) == sorted(
        " ".join(title.split()) for title in data.titles(np.arange(4))
    )
    assert not re.search(r"(src|href)\s*=|url\(|https?://(?!www\.w3)", text)


def test_large_catalogues_stay_below_two_megabytes():
    index, data = catalogue(21_000, lambda i: f"{i} " + "long title " * 20)
    text = names_page(index, data)
    assert len(text.encode()) < 2_000_000
    found = names_map(index, data)
    assert len(found["titles"]) == 20_000 and found["n_items"] == 21_000
    assert "20,000 most popular of 21,000" in text
