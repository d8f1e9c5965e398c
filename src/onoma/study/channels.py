"""Made-up logs of a firm with several products, channels and placements, whose chances are known.

What happens is kept simple and ordinary, and nothing of it is made for one kind of model: interest
in a product comes and goes in stages; contacts, card payments, clicks and conversions are likelier
in some stages than in others; people tire of what they are shown; what was bought makes another
product likelier; conversions come days after their click.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRODUCTS = ("card", "savings", "loan", "mortgage")
CHANNELS = ("app", "web", "email", "call", "branch", "card", "placement")
KINDS = ("impression", "view", "email", "calculator", "compare", "call", "visit", "apply",
         "payment", "conversion")  # fmt: skip
CLASSES, AMOUNTS = 8, 6  # of card payments
SIZES = (1 + len(PRODUCTS) + CLASSES, 1 + len(KINDS), 1 + len(CHANNELS), 1 + AMOUNTS, 3)
CONTEXT = (4, 4, 5)  # placement, device, page; 0 is none
STATICS = (3, 5, 6)  # segment, age band, region
DAY, HORIZON, WINDOW = 86_400, 180, 14
VALUES = np.array([60.0, 90.0, 300.0, 900.0])
_START = 1_704_067_200  # 1 January 2024
_IMPRESSION, _VIEW, _PAYMENT, _CONVERSION = 1, 2, 9, 10
_SHARES = np.array([0.4, 0.3, 0.3])  # impressions, contacts, payments
# Contacts by stage: view, email, calculator, compare, call, visit, apply.
_CONTACTS = np.array([
    [0.55, 0.30, 0.04, 0.05, 0.03, 0.02, 0.01],
    [0.45, 0.22, 0.15, 0.10, 0.04, 0.03, 0.01],
    [0.22, 0.08, 0.28, 0.26, 0.08, 0.04, 0.04],
    [0.15, 0.05, 0.12, 0.18, 0.18, 0.12, 0.20],
])  # fmt: skip
_CHANNEL = np.array([7, 1, 3, 1, 2, 4, 5, 2, 6, 1])  # of kinds; half of the app's are the web's
_RATES = np.array([0.012, 1 / 8, 1 / 6, 1 / 5])  # of leaving a stage forward, a day
_BACK = np.array([0.0, 1 / 15, 1 / 15, 0.0])
_CLICK = np.array([0.0, 0.6, 1.1, 1.4])
_BOUGHT = np.array([0.0, 0.9, 1.9, 3.0])
_DELAY = np.array([1.0, 2.0, 4.0, 6.0])
_LOGGING = np.array([1.2, 0.7, 0.2, -0.4])
_EASE = np.array([-2.2, -2.4, -2.9, -3.3])  # of a conversion without any interest


@dataclass(frozen=True)
class Log:
    """Events of n users, in the order of users and then of time.

    Attributes:
        offsets: int64[n + 1], of users.
        fields: int64[total, 5] entity (product, or class of payment), kind, channel, amount,
            response (1 none, 2 click); 0 for a field that says nothing.
        times: int64[total].
        context: int64[total, 3] placement, device and page of impressions.
        product: int64[total], from 0; -1 where nothing was shown.
        clicked: bool[total].
        converted: bool[total], within ``WINDOW`` days of the click.
        mature: bool[total], whether that window had passed when the log was closed.
        statics: int64[n, 3].
        chances: float32[total, 3, products] of having been shown, of a click and of a conversion
            after it, had the product been shown; 0 where nothing was.
    """

    offsets: NDArray[np.int64]
    fields: NDArray[np.int64]
    times: NDArray[np.int64]
    context: NDArray[np.int64]
    product: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    converted: NDArray[np.bool_]
    mature: NDArray[np.bool_]
    statics: NDArray[np.int64]
    chances: NDArray[np.float32]

    @property
    def users(self) -> NDArray[np.int64]:
        """int64[total], whose event it is."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def _draw(rng: np.random.Generator, chances: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64[n], a column of each row of float64[n, k] chances."""
    mass = np.cumsum(chances, axis=1)
    found = (rng.random((len(mass), 1)) * mass[:, -1:] >= mass).sum(axis=1)
    return np.asarray(np.minimum(found, chances.shape[1] - 1), dtype=np.int64)


class _People:
    """What users are like and what stage of interest they are in."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        kinds = len(PRODUCTS)
        self.rng = rng
        self.statics = np.stack([rng.integers(0, size, n) for size in STATICS], axis=1)
        # One taste for all products and one each: they go together.
        self.taste = 0.7 * rng.standard_normal((n, 1)) + 0.7 * rng.standard_normal((n, kinds))
        fit = rng.standard_normal((STATICS[1], kinds)) * 0.5  # of age bands to products
        self.fit = fit[self.statics[:, 1]]
        self.stage = np.zeros((n, kinds), dtype=np.int64)
        self.tired = np.zeros((n, kinds))
        self.last = np.full(n, -1)  # product of the last contact
        self.due = np.full((n, kinds), np.inf)  # conversions under way, in days

    def wait(self, who: NDArray[np.int64], days: NDArray[np.float64]) -> None:
        """Let time go by."""
        stage, gone = self.stage[who], days[:, None]
        rate = _RATES[stage] * np.where(stage == 0, np.exp(0.8 * self.taste[who]), 1.0)
        ahead = self.rng.random(stage.shape) < 1 - np.exp(-rate * gone)
        back = self.rng.random(stage.shape) < 1 - np.exp(-_BACK[stage] * gone)
        moved = np.where(ahead, (stage + 1) % 4, np.where(back, stage - 1, stage))
        self.stage[who] = np.maximum(moved, 0)
        self.tired[who] *= np.exp(-gone / 3)

    def bought(self, who: NDArray[np.int64], product: NDArray[np.int64]) -> None:
        """A conversion ends the interest, and makes the next product likelier."""
        self.stage[who, product] = 0
        self.due[who, product] = np.inf
        self.taste[who, (product + 1) % len(PRODUCTS)] += 1.2

    def click_logits(
        self, who: NDArray[np.int64], context: NDArray[np.int64], hour: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """float64[m, products]."""
        place = np.array([0.0, 0.5, 0.0, -0.5])[context[:, 0]]
        evening = 0.5 * np.cos(2 * np.pi * (hour - 20) / 24)
        wish = _CLICK[self.stage[who]] + 0.35 * self.taste[who]
        return np.asarray(wish - 2.3 + (place + evening)[:, None]
                          - 0.3 * np.minimum(self.tired[who], 4))  # fmt: skip

    def conversion_logits(
        self, who: NDArray[np.int64], weekday: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """float64[m, products]."""
        wish = _BOUGHT[self.stage[who]] + 0.35 * self.taste[who] + self.fit[who]
        return np.asarray(wish + _EASE + np.where(weekday < 5, 0.2, -0.4)[:, None])


def channels(n_users: int = 20_000, events: int = 75, seed: int = 0) -> Log:
    """Draw a log.

    Args:
        n_users: users.
        events: of a user, on average.
        seed: of everything.

    Returns:
        Work loops over places, not users.
    """
    rng = np.random.default_rng(seed)
    people = _People(n_users, rng)
    rate = events / HORIZON * rng.lognormal(-0.18, 0.6, n_users)
    clock = rng.exponential(1 / rate)
    who = np.flatnonzero(clock < HORIZON)
    people.wait(who, clock[who])
    parts: list[dict[str, NDArray[np.generic]]] = []
    while len(who):
        parts.append(_step(people, who, clock))
        gap = rng.exponential(1 / rate[who])
        due = people.due[who].min(axis=1)
        then = np.maximum(np.minimum(clock[who] + gap, due), clock[who] + 1 / 1440)
        people.wait(who, then - clock[who])
        clock[who] = then
        who = who[then < HORIZON]
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.lexsort((whole["times"], whole["user"]))
    whole = {key: value[order] for key, value in whole.items()}
    offsets = np.searchsorted(whole.pop("user"), np.arange(n_users + 1)).astype(np.int64)
    return Log(offsets, statics=people.statics, **whole)


def _step(
    people: _People, who: NDArray[np.int64], clock: NDArray[np.float64]
) -> dict[str, NDArray[np.generic]]:
    """One event of each of these users."""
    rng, n, kinds = people.rng, len(who), len(PRODUCTS)
    now = clock[who]
    fields = np.zeros((n, 5), dtype=np.int64)
    context = np.zeros((n, 3), dtype=np.int64)
    product = np.full(n, -1)
    clicked, converted = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    chances = np.zeros((n, 3, kinds), dtype=np.float32)
    what = _draw(rng, np.broadcast_to(_SHARES, (n, 3)))
    due = people.due[who]
    ends = due.min(axis=1) <= now + 1e-9
    what[ends] = 3

    at = np.flatnonzero(ends)
    if len(at):
        done = due[at].argmin(axis=1)
        fields[at, 0], fields[at, 1] = done + 1, _CONVERSION
        people.bought(who[at], done)
    at = np.flatnonzero(what == 2)
    pull = np.ones((len(at), CLASSES))
    pull[:, :kinds] += 1.5 * (people.stage[who[at]] >= 1)
    fields[at, 0], fields[at, 1] = _draw(rng, pull) + 1 + kinds, _PAYMENT
    ready = (people.stage[who[at]] >= 2).any(axis=1)
    spent = np.floor(rng.normal(2.5 + 0.6 * ready, 1.3)).astype(np.int64)
    fields[at, 3] = np.clip(spent, 0, AMOUNTS - 1) + 1
    at = np.flatnonzero(what == 1)
    stage = people.stage[who[at]]
    about = _draw(rng, np.exp(0.7 * stage + 0.3 * people.taste[who[at]]))
    there = stage[np.arange(len(at)), about]
    fields[at, 0], fields[at, 1] = about + 1, _draw(rng, _CONTACTS[there]) + _VIEW
    people.last[who[at]] = about
    at = np.flatnonzero(what == 0)
    if len(at):
        mine = who[at]
        context[at] = np.stack([rng.integers(1, size, len(at)) for size in CONTEXT], axis=1)
        allowed = np.ones((len(at), kinds), dtype=bool)
        allowed[:, -1] = people.statics[mine, 0] > 0
        wish = _LOGGING + 0.8 * (people.last[mine][:, None] == np.arange(kinds))
        shown = np.exp(wish) * allowed
        shown /= shown.sum(axis=1, keepdims=True)
        given = _draw(rng, shown)
        hour, weekday = now[at] * 24 % 24, np.floor(now[at]).astype(np.int64) % 7
        click = _sigmoid(people.click_logits(mine, context[at], hour))
        buy = _sigmoid(people.conversion_logits(mine, weekday))
        chances[at] = np.stack([shown, click, buy], axis=1)
        row = np.arange(len(at))
        hit = rng.random(len(at)) < click[row, given]
        bought = hit & (rng.random(len(at)) < buy[row, given])
        bought &= np.isinf(people.due[mine, given])  # one at a time
        delay = rng.exponential(_DELAY[given])
        people.due[mine[bought], given[bought]] = (now[at] + delay)[bought]
        converted[at], clicked[at], product[at] = bought & (delay <= WINDOW), hit, given
        people.tired[mine, given] = np.where(hit, 0.0, people.tired[mine, given] + 1)
        fields[at, 0], fields[at, 1], fields[at, 4] = given + 1, _IMPRESSION, 1 + hit
    channel = _CHANNEL[fields[:, 1] - 1]
    either = np.isin(channel, (1, 2)) & (rng.random(n) < 0.5)
    fields[:, 2] = np.where(either, 3 - channel, channel)
    return {
        "user": who, "fields": fields, "times": _START + (now * DAY).astype(np.int64),
        "context": context, "product": product, "clicked": clicked, "converted": converted,
        "mature": now + WINDOW <= HORIZON, "chances": chances,
    }  # fmt: skip
