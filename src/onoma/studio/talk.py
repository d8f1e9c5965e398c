"""The dialogue of the service, as a page holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onoma.serving.chat import Reply
from onoma.serving.service import Service
from onoma.serving.view import View

_K = 5


def reply(service: Service, messages: Sequence[Mapping[str, Any]], user: str | None) -> Reply:
    """The answer to the last message, for a user where one is named."""
    service.live.sync()
    view, engine = service.view, service.engine
    history = engine.known(view, user, ())
    exclude = np.concatenate(engine.unwanted(view, user, ()))
    return service.talker.reply(view, messages, history=history, exclude=exclude, k=_K)


def openings(view: View) -> list[str]:
    """Messages to begin with, of titles that many chose."""
    order = np.argsort(-view.popular_counts, kind="stable")[:30].tolist()
    titles = [view.catalogue.titles[code] for code in order if not view.catalogue.gone[code]]
    short = [title for title in titles if title and len(title) <= 30][:3]
    said = [f"I liked “{title}”" for title in short[:2]]
    if len(short) > 2:
        said.append(f"Something like “{short[2]}”, please")
    return [*said, "What do many choose?"]
