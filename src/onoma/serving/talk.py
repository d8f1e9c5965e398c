"""Who answers a dialogue: the seam between the chat route and what reads and writes language."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onoma.recommenders import Ranking, Requests
from onoma.serving.chat import Chat, Reply
from onoma.serving.view import View


class Talker(Protocol):
    """Answers dialogues about the items of a view.

    The route asks for nothing else, so that a language model takes the place of templates by
    being another one; whoever answers must name no item outside the view and none of ``exclude``.
    """

    def reply(
        self,
        view: View,
        messages: Sequence[Mapping[str, Any]],
        *,
        history: NDArray[np.integer],
        exclude: NDArray[np.integer],
        k: int,
    ) -> Reply:
        """The answer to the last message.

        Args:
            view: what can be recommended now.
            messages: ``role`` and ``content`` of each, oldest first.
            history: item codes of what is known of the user besides the dialogue.
            exclude: item codes that must not be named, withdrawn ones among them.
            k: items to answer.
        """
        ...


class Templates:
    """Answers by retrieval and template, with no language model; see :class:`Chat`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[View, Chat] | None = None

    def reply(
        self,
        view: View,
        messages: Sequence[Mapping[str, Any]],
        *,
        history: NDArray[np.integer],
        exclude: NDArray[np.integer],
        k: int,
    ) -> Reply:
        """See :class:`Talker`."""
        return self._chat(view).reply(messages, history=history, exclude=exclude, k=k)

    def _chat(self, view: View) -> Chat:
        """The chat of a view; one that differs in withdrawn items alone keeps it."""
        with self._lock:
            if self._made is not None:
                had, chat = self._made
                if had.texts is view.texts and had.answers is view.answers:
                    return chat
            chat = Chat(view.catalogue.table, _recommend(view), _search(view))
            self._made = view, chat
            return chat


def _recommend(view: View) -> Any:
    reads_history = "history" in view.answers.reads

    def recommend(requests: Requests, k: int) -> Ranking:
        asked = view.answers
        if reads_history and not len(requests.history.values):
            asked = view.popular
        return asked.recommend(requests, min(k, len(view.catalogue)))

    return recommend


def _search(view: View) -> Any:
    return lambda query: view.texts.bm25.scores(query)
