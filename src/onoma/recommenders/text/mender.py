"""Mender: the next item, given what the user says they look for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onoma.recommenders.base import Requests
from onoma.recommenders.text.p5 import P5, P5Settings
from onoma.recommenders.text.prompts import Prompt, Values
from onoma.recommenders.text.tasks import Question


class MenderSettings(P5Settings):
    """A P5 whose prompts say preferences."""

    prompts: str = "mender"
    families: dict[str, int] = {"sequential": 1, "preferred": 2, "steered": 1}


class Mender(P5):
    """Preference discerning (Paischer et al., 2024): a preference in words steers what is spelled.

    Reads the titles of the history and ``Requests.query``, a preference such as ``looks for
    strategy games`` or ``avoids horror``; several are joined by semicolons. A request without one
    is answered from its history.
    """

    name = "mender"
    reads = frozenset({"history", "query"})
    settings_type = MenderSettings

    def asked(self, requests: Requests, prompt: Prompt | None = None) -> list[Question]:
        """The question for the next item; with the preference where the request has one."""
        plain = super().asked(requests, prompt)
        if prompt is not None or requests.query is None:
            return plain
        said = self.prompts_of("preferred")[0]
        return [
            Question(said, {**one.values, "preference": text}) if text else one
            for one, text in zip(plain, requests.query, strict=True)
        ]

    def _request(
        self, requests: Requests, row: int, user: int, history: NDArray[np.integer]
    ) -> Values:
        # Without ids of users, a stranger is answered like anybody else.
        return super()._request(requests, row, -1, history)

    def preferring(self, requests: Requests, said: Sequence[str], k: int = 10) -> NDArray[np.int32]:
        """int32[n, k]: the answers to requests with these preferences."""
        asked = Requests(
            requests.history, requests.users, requests.exclude, query=list(said),
            mask_seen=requests.mask_seen,
        )  # fmt: skip
        return self.recommend(asked, k).items
