"""Per-case figures on disk, so that runs can be paired without asking the models again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset.files import write_parquet
from onoma.evaluation.evaluate import Evaluation

NAME = "cases.parquet"


def question(metrics: Mapping[str, Any]) -> tuple[object, ...]:
    """What a run was asked, by its metrics file: only runs that were asked the same compare."""
    protocol = metrics.get("protocol", {})
    told = [protocol.get(key) for key in ("mask_seen", "ranked", "equal_scores", "query")]
    return (
        metrics.get("dataset", {}).get("split_hash"), metrics.get("test", {}).get("cases"), *told
    )  # fmt: skip


def write_cases(evaluation: Evaluation, folder: Path) -> None:
    """Write ``cases.parquet``: ``user`` (Int32 code) and one Float32 column a metric."""
    columns = {key: values.astype(np.float32) for key, values in evaluation.metrics.items()}
    write_parquet(pl.DataFrame({"user": evaluation.cases.users, **columns}), folder / NAME)


def read_cases(folder: Path) -> dict[str, NDArray[np.generic]] | None:
    """The columns of ``cases.parquet``, or None where it is missing or damaged."""
    try:
        table = pl.read_parquet(folder / NAME)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return {column: table[column].to_numpy() for column in table.columns}
