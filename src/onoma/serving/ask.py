"""Routes that answer: recommend, rank, similar, search."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Response
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from onoma.serving.engine import Query, request_id
from onoma.serving.filters import Node, parse
from onoma.serving.problems import documented, problem
from onoma.serving.schema import (
    RankIn,
    RankOut,
    RecommendIn,
    RecommendOut,
    SearchIn,
    SearchOut,
    SimilarIn,
    SimilarOut,
)
from onoma.serving.search import best, fuse
from onoma.serving.service import Service
from onoma.serving.view import View
from onoma.serving.why import MOST, attribution, explain

_LISTED = 200  # of each list that is fused


def answer(document: Any) -> Response:
    """A document as it is: it was made to its schema and is not checked again."""
    return Response(orjson.dumps(document), media_type="application/json")


@lru_cache(maxsize=256)
def _parsed(text: str) -> Node:
    return parse(text)


def routes(service: Service) -> APIRouter:
    """The routes of a service."""
    router = APIRouter(prefix="/v1", tags=["ask"], responses=documented())

    @router.post("/recommend", response_model=RecommendOut, responses=documented(409))
    async def recommend(body: RecommendIn) -> Response:
        """The k best items for a user, a history, or both."""
        asked = time.perf_counter()
        query = Query(
            body.user_id,
            tuple(body.history),
            body.k,
            tuple(body.exclude),
            None if body.candidates is None else tuple(body.candidates),
            None if body.filter is None else _parsed(body.filter),
            body.diversity,
            body.mode,
            body.repeats,
            _context(body),
            asked,
        )
        found = await service.batcher.ask(query)
        if body.explain:
            await run_in_threadpool(_explained, service, body, found)
        return answer(found)

    @router.post("/rank", response_model=RankOut)
    async def rank(body: RankIn) -> Response:
        """The given items in order, those already seen or disliked among them."""
        query = Query(
            body.user_id,
            tuple(body.history),
            len(body.items),
            candidates=tuple(body.items),
            repeats=True,
            refused=True,
            context=_context(body),
            asked=time.perf_counter(),
        )
        found = await service.batcher.ask(query)
        catalogue = service.view.catalogue
        if body.explain:
            await run_in_threadpool(_explained, service, body, found)
        found["unknown"] = [item for item in body.items if not catalogue.has(item)]
        return answer(found)

    @router.post("/similar", response_model=SimilarOut, responses=documented(404))
    async def similar(body: SimilarIn) -> Response:
        """Items like one."""
        view = service.view
        if not view.catalogue.has(body.item_id):
            return problem(404, "There is no such item.")
        return answer(await run_in_threadpool(_similar, view, body))

    @router.post("/search", response_model=SearchOut)
    async def search(body: SearchIn) -> Response:
        """Items found by words, ordered by words, by meaning, and by taste where it is known."""
        began = time.perf_counter()
        view = service.view  # codes are of this one, whichever answers meanwhile
        found = await run_in_threadpool(_search, view, body)
        if found["codes"] and (body.user_id is not None or body.history):
            query = Query(
                body.user_id,
                tuple(body.history),
                len(found["codes"]),
                candidates=tuple(view.catalogue.ids[code] for code in found["codes"]),
                repeats=True,
                asked=time.perf_counter(),
            )
            liked = await service.batcher.ask(query)
            found["lists"].append(view.catalogue.codes(item["item_id"] for item in liked["items"]))
            found["personalised"] = liked["fallback"] != "popular"
        codes, scores = fuse(found["lists"])
        service.metrics.stage["search"].observe(time.perf_counter() - began)
        return answer(
            {
                "request_id": request_id(view),
                "model": view.name,
                "personalised": found["personalised"],
                "items": _scored(view, codes[: body.k], scores[: body.k]),
            }
        )

    return router


def _context(body: RecommendIn | RankIn) -> dict[str, Any]:
    if body.scenario is None:
        return dict(body.context)
    return {**body.context, "scenario": body.scenario}


def _explained(service: Service, body: RecommendIn | RankIn, found: dict[str, Any]) -> None:
    """Put reasons to the first items of an answer."""
    began = time.perf_counter()
    view = service.view
    history = service.engine.known(view, body.user_id, body.history)
    items = found["items"][:MOST]
    ids = [item["item_id"] for item in items]
    for item, told in zip(items, explain(view, history, ids), strict=True):
        item.update(told)
    found["explained_by"] = attribution(view).name
    service.metrics.stage["explain"].observe(time.perf_counter() - began)


def _allowed(view: View, text: str | None) -> NDArray[np.bool_]:
    allowed = ~view.catalogue.gone
    return allowed if text is None else allowed & view.kept(_parsed(text))


def _scored(view: View, codes: list[int], scores: list[float]) -> list[dict[str, Any]]:
    catalogue = view.catalogue
    return [
        {
            "item_id": catalogue.ids[code],
            "title": catalogue.titles[code],
            "score": score,
            "name": view.name_of(code),
        }
        for code, score in zip(codes, scores, strict=True)
    ]


def _similar(view: View, body: SimilarIn) -> dict[str, Any]:
    vectors = view.likeness if body.by == "model" else view.space.vectors
    code = view.catalogue.code[body.item_id]
    scores = vectors @ vectors[code]
    scores[~_allowed(view, body.filter)] = -np.inf
    scores[code] = -np.inf
    found = best(scores, body.k, above=-2.0)
    return {
        "request_id": request_id(view),
        "model": view.name,
        "by": body.by,
        "items": _scored(view, found.tolist(), scores[found].tolist()),
    }


def _search(view: View, body: SearchIn) -> dict[str, Any]:
    allowed = _allowed(view, body.filter)
    by_words = np.where(allowed, view.texts.bm25.scores(body.query), 0)
    vector = view.space.words(body.query)
    by_meaning = np.where(allowed, view.space.vectors @ vector, 0)
    lists = [best(by_words, _LISTED), best(by_meaning.astype(np.float32), _LISTED)]
    codes = np.unique(np.concatenate(lists)).tolist()
    return {"lists": lists, "codes": codes, "personalised": False}
