"""API keys: made once, shown once, kept as salted hashes; and how often each may ask."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onoma.errors import OnomaError
from onoma.serving.store import Record, Store

SCOPES = ("read", "write", "admin")
_FORM = re.compile(r"onoma_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Key:
    """A known key, without its secret.

    Attributes:
        id: the public part.
        name: what its owner called it.
        scopes: of :data:`SCOPES`; ``admin`` includes the others.
    """

    id: str
    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the key opens this scope."""
        return scope in self.scopes or "admin" in self.scopes


class Keyring:
    """The keys of a store, ready for comparison."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._known: dict[str, tuple[bytes, bytes, Key]] = {}
        self.update(records)

    def __len__(self) -> int:
        return len(self._known)

    def update(self, records: Iterable[Record]) -> None:
        """Take new and revoked keys."""
        for record in records:
            if record.gone:
                self._known.pop(record.id, None)
                continue
            data = record.data
            key = Key(record.id, str(data["name"]), frozenset(data["scopes"]))
            salt, kept = bytes.fromhex(data["salt"]), bytes.fromhex(data["hash"])
            self._known[record.id] = (salt, kept, key)

    def find(self, token: str) -> Key | None:
        """The key that a token is, compared in constant time."""
        match = _FORM.fullmatch(token)
        if match is None or match[1] not in self._known:
            return None
        salt, kept, key = self._known[match[1]]
        return key if hmac.compare_digest(_hash(match[2], salt), kept) else None


def add_key(store: Store, name: str, scopes: Sequence[str]) -> str:
    """Make a key and keep its hash; the token is returned and cannot be had again.

    Raises:
        OnomaError: an unknown scope, or no scope at all.
    """
    wrong = [scope for scope in scopes if scope not in SCOPES]
    if wrong or not scopes:
        raise OnomaError(
            f"no scope {wrong[0]!r}" if wrong else "no scope is named",
            where="keys", fix=f"Scopes are {', '.join(SCOPES)}",
        )  # fmt: skip
    public, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_bytes(16)
    data = {
        "name": name,
        "scopes": sorted(set(scopes)),
        "salt": salt.hex(),
        "hash": _hash(secret, salt).hex(),
        "made": int(time.time()),
    }
    store.put("keys", [Record(public, data)])
    return f"onoma_{public}_{secret}"


def revoke_key(store: Store, public: str) -> None:
    """Close a key for good.

    Raises:
        OnomaError: there is no such key.
    """
    found = store.get("keys", [public])
    if not found or found[0].gone:
        raise OnomaError(f"no key {public!r}", where="keys", fix="onoma keys list shows them")
    store.put("keys", [Record(public, found[0].data, gone=True)])


def _hash(secret: str, salt: bytes) -> bytes:
    # 256 random bits cannot be guessed, so a slow hash would only slow the service.
    return hashlib.blake2b(secret.encode(), salt=salt, digest_size=32).digest()


class Buckets:
    """A token bucket for each name: so many requests a second, so many at once.

    Args:
        rate: tokens a second; 0 lets everything pass.
        burst: tokens that a bucket holds.
        most: buckets kept; the longest unused is full again and is dropped.
    """

    def __init__(self, rate: float, burst: int, most: int = 10_000) -> None:
        self.rate, self.burst, self._most = rate, burst, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Take a token: 0, or the seconds until there is one."""
        if self.rate <= 0:
            return 0.0
        left, then = self._left.pop(name, (float(self.burst), now))
        left = min(self.burst, left + (now - then) * self.rate)
        passed = left >= 1
        self._left[name] = (left - 1 if passed else left, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return 0.0 if passed else (1 - left) / self.rate
