"""What ``onoma compare`` found, as a page and as the sections of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onoma.dataset.files import write_text
from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table


def write_comparison(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of ``onoma compare``.

    Args:
        result: what :func:`onoma.comparison.comparison` returns.
        path: the file to write.
    """
    subtitle = f"{result['cases']:,} cases; {result['test']}"
    path = Path(path)
    write_text(page(f"Runs on {result['dataset']}", subtitle, comparison_sections(result)), path)
    return path


def comparison_sections(result: Mapping[str, Any]) -> list[str]:
    """A section a metric, and one over seeds where there are several."""
    parts = []
    for key, rows in result["metrics"].items():
        dots = [
            Dot(row["run"], row["difference"], row["low"], row["high"], ours=True)
            for row in rows[1:]
        ]
        lines = [
            [
                row["run"],
                number(row["mean"]),
                *(
                    [
                        f"{row['difference']:+.4f}",
                        f"{row['low']:+.4f} to {row['high']:+.4f}",
                        number(row["p"], 4),
                        number(row["p_holm"], 4),
                    ]
                    if "p" in row
                    else ["baseline", "", "", ""]
                ),
            ]
            for row in rows
        ]
        head = ["run", key, "difference", "95 % interval", "p", "p (Holm)"]
        chart = dot_chart(f"{key}: difference to {rows[0]['run']}", dots, zero=True)
        parts.append(section(key, f'<div class="pair">{chart}</div><br>', table(head, lines)))
    seeds = [
        [f"{r['recipe']}, {r['metric']}", r["seeds"], number(r["mean"]),
         f"{number(r['low'])} to {number(r['high'])}"]
        for r in result.get("seeds", [])
    ]  # fmt: skip
    parts.append(
        section("Over seeds", table(["recipe", "seeds", "mean", "95 % interval (Student)"], seeds))
    )
    return parts
