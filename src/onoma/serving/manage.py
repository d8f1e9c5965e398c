"""Routes about the service itself: health, metrics, models, names."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Response
from starlette.concurrency import run_in_threadpool

from onoma.serving.ask import answer
from onoma.serving.metrics import CONTENT_TYPE
from onoma.serving.problems import documented, problem
from onoma.serving.schema import HealthOut, Id, ModelOut, ModelsOut, NameOut, SwapIn
from onoma.serving.service import Service
from onoma.serving.view import View

_NEIGHBOURS = 10


def routes(service: Service) -> APIRouter:
    """The routes of a service."""
    router = APIRouter(tags=["manage"], responses=documented())

    @router.get("/health/live", response_model=HealthOut)
    async def live() -> Response:
        """Whether the process runs."""
        return answer({"status": "ok"})

    @router.get("/health/ready", response_model=HealthOut)
    async def ready() -> Response:
        """Whether requests can be answered and events kept."""
        try:
            await run_in_threadpool(service.store.version)
        except Exception:
            return problem(503, "The store cannot be reached.")
        return answer({"status": "ok"})

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Counters and histograms for Prometheus."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    @router.get("/v1/names/{item_id:path}", response_model=NameOut, responses=documented(404))
    async def names(item_id: Annotated[Id, Path()]) -> Response:
        """The name of an item, and who shares the beginning of it."""
        view = service.view
        if not view.catalogue.has(item_id):
            return problem(404, "There is no such item.")
        if view.name_of(view.catalogue.code[item_id]) is None:
            return problem(404, "The model gives this item no name.")
        return answer(await run_in_threadpool(_name, view, view.catalogue.code[item_id]))

    @router.get("/v1/models", response_model=ModelsOut)
    async def models() -> Response:
        """The model that answers, and those that could."""
        return answer(await run_in_threadpool(_models, service))

    @router.post("/v1/models/swap", response_model=ModelOut, responses=documented(404))
    async def swap(body: SwapIn) -> Response:
        """Load another run beside the first and put it in place; no request waits for it."""
        view = await run_in_threadpool(service.swap, body.run)
        return answer(view.describe())

    @router.post("/v1/models/restore", response_model=ModelOut, responses=documented(404, 409))
    async def restore() -> Response:
        """Put the model before this one back."""
        view = await run_in_threadpool(service.restore)
        return answer(view.describe())

    return router


def _models(service: Service) -> dict[str, Any]:
    view = service.view
    card = {"id": view.name, "object": "model", "created": view.made, "owned_by": "onoma"}
    return {
        "object": "list",
        "data": [card],
        "current": view.describe(),
        "previous": service.previous,
        "available": service.available(),
    }


def _name(view: View, code: int) -> dict[str, Any]:
    assert view.names is not None
    names, catalogue = view.names, view.catalogue
    same = names == names[code]
    shared = np.logical_and.accumulate(same, axis=1).sum(axis=1)
    shared[code] = 0
    shared[np.flatnonzero(catalogue.gone[: len(names)])] = 0
    order = np.argsort(-shared, kind="stable")[:_NEIGHBOURS]
    return {
        "item_id": catalogue.ids[code],
        "title": catalogue.titles[code],
        "name": view.name_of(code),
        "text": "-".join(str(part) for part in view.name_of(code) or ()),
        "neighbours": [
            {
                "item_id": catalogue.ids[each],
                "title": catalogue.titles[each],
                "score": float(shared[each]),
                "name": view.name_of(each),
            }
            for each in order.tolist()
            if shared[each] > 0
        ],
    }
