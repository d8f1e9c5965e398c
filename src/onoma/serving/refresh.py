"""Train again from what a service has learnt since, into a new run beside the old."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl

from onoma.dataset import Dataset
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.run import Run, open_run, run
from onoma.serving.catalogue import Catalogue
from onoma.serving.store import POSITIVE, Event, Store
from onoma.serving.view import REFRESH


def merged(dataset: Dataset, store: Store, after: int = 0) -> tuple[Dataset, int]:
    """A data set with the events and items of a store.

    Events of withdrawn items and of items that neither has are left out, and so is all of erased
    users that came before they were erased. Dislikes, hidings and impressions are no interactions.

    Args:
        dataset: the data of the run.
        store: of the service.
        after: events up to this number are in the data already.

    Returns:
        The data set, and the number of the last event that was read.
    """
    catalogue = Catalogue.of(dataset)
    records = store.records("items")
    put = [{"item_id": r.id, **r.data} for r in records if not r.gone]
    fresh = [item for item in put if item["item_id"] not in catalogue.code]
    known = [item for item in put if item["item_id"] in catalogue.code]
    if known:
        catalogue = catalogue.updated(catalogue.rows(known))
    if fresh:
        catalogue = catalogue.extended(catalogue.rows(fresh))
    gone = {record.id for record in records if record.gone}
    erased = {r.id for r in store.records("users") if r.data.get("erased")}
    events: list[Event] = []
    through = after
    while part := store.events(through):
        through = part[-1].seq
        events += part
    kept = [
        e
        for e in events
        if e.kind in POSITIVE and e.item_id in catalogue.code and e.item_id not in gone
    ]
    old = dataset.with_ids(dataset.interactions)
    old = old.filter(~pl.col("user_id").is_in(list(erased)), ~pl.col("item_id").is_in(list(gone)))
    new = pl.DataFrame(
        {
            "user_id": [e.user_id for e in kept],
            "item_id": [e.item_id for e in kept],
            "timestamp": [e.timestamp for e in kept],
            "event": [e.kind for e in kept],
            "rating": [e.value if e.kind == "rating" else None for e in kept],
        },
        schema_overrides={
            "user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64,
            "event": pl.String, "rating": pl.Float32,
        },
    )  # fmt: skip
    new = new.select([c for c in new.columns if c in old.columns])
    items = catalogue.table.filter(~pl.col("item_id").is_in(list(gone)))
    users = dataset.users.filter(~pl.col("user_id").is_in(list(erased)))
    log = pl.concat([old, new], how="diagonal_relaxed")
    notes = {**dataset.notes, "refreshed": {"events": len(kept), "items": len(fresh)}}
    return Dataset.construct(log, items, users, name=dataset.name, notes=notes), through


def refresh(path: str | Path, store: Store, *, quiet: bool = False) -> Run:
    """Fit the recipe of a run again on its data and what the store has since.

    Args:
        path: the run.
        store: of the service.
        quiet: no progress bar.

    Returns:
        The new run, named like the old with ``+1``, ``+2`` and so on; its data lies beside it.

    Raises:
        OnomaError: the store has nothing new, or the run cannot be opened.
    """
    old = open_run(path)
    after = 0
    if (old.path / REFRESH).is_file():
        after = int(json.loads((old.path / REFRESH).read_text("utf-8"))["through"])
    dataset, through = merged(old.dataset, store, after)
    if through == after and not store.records("items"):
        raise OnomaError("the store has nothing new", where=str(old.path))
    beside = old.path.resolve().parent
    stem = re.sub(r"\+\d+$", "", old.path.resolve().name)
    number = 1
    while (beside / f"{stem}+{number}").exists() or (beside / f".{stem}+{number}.data").exists():
        number += 1
    out, data = beside / f"{stem}+{number}", beside / f".{stem}+{number}.data"
    dataset.save(data)
    made = run(old.recipe, str(data), out, quiet=quiet)
    write_text(json.dumps({"through": through, "from": old.path.name}) + "\n", out / REFRESH)
    return made
