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
from onoma.serving.view import REFRESH, read_through


def merged(dataset: Dataset, store: Store, after: int = 0) -> tuple[Dataset, int]:
    """A data set with the events and items of a store.

    Events of withdrawn items and of items that neither has are left out, and so is all of erased
    users that came before they were erased. Dislikes, hidings and impressions are no interactions.

    Args:
        dataset: the data of the run.
        store: of the service.
        after: events up to this number are in the data already; 0 for data that another store
            is in.

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
    events: list[Event] = []
    through = after
    while part := store.events(through):
        through = part[-1].seq
        events += part
    # Read last, so that nobody who is erased meanwhile is missed.
    upto = {r.id: int(r.data["erased"]) for r in store.records("users") if "erased" in r.data}
    # The data holds what came after an erasure, where that has a lower number.
    erased = [user for user, number in upto.items() if number >= after]
    kept = [
        e
        for e in events
        if e.kind in POSITIVE and e.item_id in catalogue.code and e.item_id not in gone
        and e.seq > upto.get(e.user_id, 0)
    ]  # fmt: skip
    old = dataset.with_ids(dataset.interactions)
    old = old.filter(~pl.col("user_id").is_in(erased), ~pl.col("item_id").is_in(list(gone)))
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
    users = dataset.users.filter(~pl.col("user_id").is_in(erased))
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
    after = read_through(old.path, store.id)
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
    read = {"through": through, "store": store.id, "from": old.path.name}
    write_text(json.dumps(read) + "\n", out / REFRESH)
    return made
