"""The published table beside ours: every row, and where the orders differ."""

from onoma.study.indexing import INDICES
from onoma.study.published import PUBLISHED, order_note, reversed_pairs


def row(name: str, mean: float, spread: float = 0.001) -> dict:
    return {
        "index": name,
        "ndcg@10": {"mean": mean, "low": mean - spread, "high": mean + spread},
    }


def test_every_published_row_is_an_index_of_the_study() -> None:
    assert set(PUBLISHED) == {"amazon-beauty-2014", "amazon-sports-2014", "yelp-2019"}
    for table in PUBLISHED.values():
        assert len(table) == 10 and set(table) < set(INDICES)
        assert all(row["recall@10"] >= row["ndcg@10"] for row in table.values())
    assert PUBLISHED["amazon-beauty-2014"]["collaborative+iid"]["ndcg@10"] == 0.0427
    assert PUBLISHED["yelp-2019"]["sequential"]["ndcg@10"] == 0.0287


def test_reversed_orders_are_told() -> None:
    paper = PUBLISHED["amazon-beauty-2014"]
    same = [row("collaborative+iid", 0.04), row("collaborative", 0.03), row("random", 0.02)]
    assert reversed_pairs([*same, row("rqkmeans", 0.05)], paper) == []
    assert "is the published one" in order_note(same, paper)
    turned = [row("random", 0.04), row("collaborative", 0.0395), row("collaborative+iid", 0.03)]
    assert reversed_pairs(turned, paper) == [
        {"better": "random", "worse": "collaborative", "told_apart": False},
        {"better": "random", "worse": "collaborative+iid", "told_apart": True},
        {"better": "collaborative", "worse": "collaborative+iid", "told_apart": True},
    ]
    assert "3 of 3 pairs" in order_note(turned, paper)
    assert "no order" in order_note([row("rqkmeans", 0.05), row("random", 0.02)], paper)
