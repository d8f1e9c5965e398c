"""The dialogue of :class:`onoma.serving.chat.Chat` over the view that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onoma.recommenders import Ranking, Requests
from onoma.serving.chat import Chat, Reply
from onoma.serving.service import Service
from onoma.serving.view import View

_K = 5


class Talk:
    """Answers for one state of the catalogue.

    Args:
        service: whose users these are.
        view: what answers.
    """

    def __init__(self, service: Service, view: View) -> None:
        self._service, self._view = service, view
        self._chat = Chat(view.catalogue.table, self._recommend, view.bm25.scores)

    def reply(self, messages: Sequence[Any], user: str | None = None) -> Reply:
        """The answer to the last message, for a user where one is named."""
        view, live = self._view, self._service.live
        live.sync()
        banned, history = view.withdrawn, np.zeros(0, dtype=np.int32)
        if user is not None:
            history = self._service.engine.history(view, user).astype(np.int32)
            disliked = view.catalogue.codes(live.disliked(user))
            banned = np.concatenate([banned, disliked])
        return self._chat.reply(messages, history=history, exclude=banned, k=_K)

    def openings(self) -> list[str]:
        """Messages to begin with, of titles that many chose."""
        view = self._view
        order = np.argsort(-view.popular_counts, kind="stable")[:30].tolist()
        titles = [view.catalogue.titles[code] for code in order if not view.catalogue.gone[code]]
        short = [title for title in titles if title and len(title) <= 30][:3]
        said = [f"I liked “{title}”" for title in short[:2]]
        if len(short) > 2:
            said.append(f"Something like “{short[2]}”, please")
        return [*said, "What do many choose?"]

    def _recommend(self, requests: Requests, k: int) -> Ranking:
        view = self._view
        known = requests.history.lengths().sum() > 0
        asked = view.answers if known or "history" not in view.answers.reads else view.popular
        return asked.recommend(requests, min(k, len(view.catalogue)))
