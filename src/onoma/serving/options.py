"""How a service is set up; passed to worker processes as JSON."""

from __future__ import annotations

import ipaddress
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

RATE = 100.0


class Options(BaseModel):
    """Settings of a service.

    Attributes:
        run: the run directory.
        store: see :func:`onoma.serving.store.open_store`.
        host: address to bind.
        port: port to bind.
        workers: processes.
        threads: of torch, in each process.
        batch: most requests answered together.
        queue: requests that may wait; more are refused with 503.
        rate: requests a second for each key; 0 for no limit, None for :data:`RATE` where keys are
            asked for and no limit elsewhere.
        burst: requests a key may make at once.
        body: bytes of the largest body.
        nesting: brackets inside each other in a body.
        patience: seconds a client may take to send its headers, and again its body.
        origins: web origins whose pages may call the service.
        hosts: names by which a loopback service may be called; another name in the ``Host``
            header is a page of somewhere else that had its own name point here.
        require_keys: ask for keys on loopback too.
        quiet: no access log.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    store: str
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=1, ge=1, le=256)
    batch: int = Field(default=32, ge=1, le=4096)
    queue: int = Field(default=2048, ge=1)
    rate: float | None = Field(default=None, ge=0)
    burst: int = Field(default=100, ge=1)
    body: int = Field(default=1 << 20, ge=1024)
    nesting: int = Field(default=16, ge=4)
    patience: float = Field(default=10.0, gt=0)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    require_keys: bool = False
    quiet: bool = False

    @cached_property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def keyed(self) -> bool:
        """Whether every request needs a key."""
        return self.require_keys or not self.loopback

    @property
    def limit(self) -> float:
        """Requests a second for each key; 0 for no limit."""
        if self.rate is not None:
            return self.rate
        return RATE if self.keyed else 0.0
