"""Routes that take: events, items, users."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from onoma.serving.ask import answer
from onoma.serving.problems import documented
from onoma.serving.schema import (
    ChangedOut,
    EventIn,
    EventsIn,
    EventsOut,
    Id,
    ItemIn,
    ItemsIn,
    ItemsOut,
    UsersIn,
    UsersOut,
)
from onoma.serving.service import Service
from onoma.serving.store import Event, Record
from onoma.serving.view import View

_AHEAD = 24 * 3600  # seconds that a sender's clock may be ahead
_SHOWN = 100  # items of a history that are shown

Ids = Annotated[list[Id], Query(min_length=1, max_length=100)]
SomeIds = Annotated[list[Id], Query(max_length=100)]


def routes(service: Service) -> APIRouter:
    """The routes of a service."""
    router = APIRouter(prefix="/v1", tags=["tell"], responses=documented())

    @router.post("/events", response_model=EventsOut)
    async def events(body: EventsIn) -> Response:
        """Keep events; what is accepted is on the disk and changes the user's next answer."""
        return answer(await run_in_threadpool(_keep, service, body.events))

    @router.put("/items", response_model=ChangedOut)
    async def put_items(body: ItemsIn) -> Response:
        """Add or change items; they can be recommended when this returns.

        What is not said of an item stays as it was.
        """
        return answer({"changed": await run_in_threadpool(_put, service, body.items)})

    @router.get("/items", response_model=ItemsOut)
    async def get_items(
        item_id: SomeIds = [],  # noqa: B006
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Items by id, or a page of the catalogue."""
        view = service.view
        n = len(view.catalogue)
        if item_id:
            codes = [c for c in dict.fromkeys(view.catalogue.codes(item_id).tolist())]
        else:
            codes = list(range(min(offset, n), min(offset + limit, n)))
        found = await run_in_threadpool(_items, view, codes)
        return answer({"items": found, "total": n})

    @router.delete("/items", response_model=ChangedOut)
    async def delete_items(item_id: Ids) -> Response:
        """Withdraw items: no answer holds them again, until they are put back."""
        catalogue = service.view.catalogue
        ids = [each for each in dict.fromkeys(item_id) if catalogue.has(each)]

        def withdraw() -> None:
            had = {record.id: record.data for record in service.store.get("items", ids)}
            service.put("items", [Record(each, had.get(each, {}), gone=True) for each in ids])

        if ids:
            await run_in_threadpool(withdraw)
        return answer({"changed": len(ids)})

    @router.put("/users", response_model=ChangedOut)
    async def put_users(body: UsersIn) -> Response:
        """Keep attributes of users; a user needs none to be recommended to."""
        users = {user.user_id: user for user in body.users}

        def keep() -> None:
            had = {record.id: record.data for record in service.store.get("users", list(users))}
            service.put(
                "users",
                [
                    Record(u, {**had.get(u, {}), "attributes": user.attributes})
                    for u, user in users.items()
                ],
            )

        await run_in_threadpool(keep)
        return answer({"changed": len(users)})

    @router.get("/users", response_model=UsersOut)
    async def get_users(user_id: Ids) -> Response:
        """What is known of users; those of whom nothing is known are left out."""
        return answer({"users": await run_in_threadpool(_users, service, user_id)})

    @router.delete("/users", response_model=ChangedOut)
    async def delete_users(user_id: Ids) -> Response:
        """Delete the events of users, and never read what the data says of them."""
        ids = list(dict.fromkeys(user_id))
        return answer({"changed": await run_in_threadpool(service.erase, ids)})

    return router


def _put(service: Service, rows: list[ItemIn]) -> int:
    """Keep what is said of items on top of what was said before; how many items they are."""
    ids = list(dict.fromkeys(item.item_id for item in rows))
    had = {record.id: record for record in service.store.get("items", ids)}
    told = {each: record.data for each, record in had.items()}
    for item in rows:
        before = told.get(item.item_id, {})
        told[item.item_id] = {
            **before,
            "title": before.get("title") if item.title is None else item.title,
            "attributes": {**before.get("attributes", {}), **item.attributes},
        }
    # To say the same again is no change, which every process would have to follow.
    records = [
        Record(each, told[each])
        for each in ids
        if each not in had or had[each].gone or had[each].data != told[each]
    ]
    if records:
        service.put("items", records)
    return len(ids)


def _keep(service: Service, rows: list[EventIn]) -> dict[str, Any]:
    began, now = time.perf_counter(), int(time.time())
    catalogue = service.view.catalogue
    results: list[dict[str, Any]] = []
    good: list[tuple[int, Event]] = []
    for place, row in enumerate(rows):
        event_id = row.event_id or uuid.uuid4().hex
        error = None
        if row.item_id not in catalogue.code:
            error = "there is no such item"
        elif row.timestamp is not None and row.timestamp > now + _AHEAD:
            error = "the timestamp lies in the future"
        results.append({"event_id": event_id, "status": "rejected", "error": error})
        if error is None:
            event = Event(
                event_id, row.user_id, row.item_id, row.type,
                now if row.timestamp is None else row.timestamp, row.value, row.request_id,
            )  # fmt: skip
            good.append((place, event))
    new = service.store.add_events([event for _, event in good]) if good else []
    for (place, _), fresh in zip(good, new, strict=True):
        results[place]["status"] = "accepted" if fresh else "duplicate"
    service.metrics.stage["store"].observe(time.perf_counter() - began)
    counts = {
        status: sum(result["status"] == status for result in results)
        for status in ("accepted", "duplicate", "rejected")
    }
    for status, count in counts.items():
        service.metrics.events.labels(status).inc(count)
    return {
        "accepted": counts["accepted"],
        "duplicates": counts["duplicate"],
        "rejected": counts["rejected"],
        "results": results,
    }


def _items(view: View, codes: list[int]) -> list[dict[str, Any]]:
    catalogue = view.catalogue
    rows = catalogue.table[codes].drop("item_id", "title").to_dicts() if codes else []
    return [
        {
            "item_id": catalogue.ids[code],
            "title": catalogue.titles[code],
            "attributes": {key: value for key, value in row.items() if value is not None},
            "name": view.name_of(code),
            "withdrawn": bool(catalogue.gone[code]),
            "new": code >= catalogue.base,
        }
        for code, row in zip(codes, rows, strict=True)
    ]


def _users(service: Service, ids: list[str]) -> list[dict[str, Any]]:
    service.live.sync()
    view = service.view
    kept = {record.id: record for record in service.store.get("users", ids)}
    out = []
    for user_id in dict.fromkeys(ids):
        history = service.engine.known(view, user_id)
        record = kept.get(user_id)
        if not len(history) and (record is None or record.gone):
            continue
        out.append(
            {
                "user_id": user_id,
                "attributes": {} if record is None else record.data.get("attributes", {}),
                "history": [view.catalogue.ids[code] for code in history[-_SHOWN:].tolist()],
                "interactions": len(history),
            }
        )
    return out
