"""A request on its way through the application: what its log line and its metrics will say."""

from __future__ import annotations

import logging
import random
import re
import time
from typing import Any

log = logging.getLogger(__name__)

_GIVEN_ID = re.compile(r"[A-Za-z0-9_.:+=/@-]{1,128}")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"))
_PROBES = frozenset(("/healthz", "/readyz", "/metrics"))


class Visit:
    """One request. `key` is what it brought as an API key, and never said; `account_id` whose it turned out to be."""

    __slots__ = ("_given_id", "_started", "account_id", "client", "environ", "key", "limit", "method", "route")

    def __init__(self, environ: dict[str, Any], route: str, client: str | None) -> None:
        self._started = time.perf_counter()
        self._given_id: str | None = environ.get("HTTP_X_REQUEST_ID")
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.route = route
        self.client = client
        self.key: bytes | None = None
        self.account_id: int | None = None
        self.limit: str | None = None

    @property
    def seconds(self) -> float:
        """Since it came."""
        return time.perf_counter() - self._started

    def request_id(self) -> str:
        """The id that the client, or a proxy, gave it in X-Request-Id where that is well-formed, else a new one. A key
        put there by mistake is none: ids reach the log. Where no key was understood, any id may be one."""
        given = self._given_id
        known = given and self.key is not None and self.key.lower() not in given.lower().encode()
        if given and known and _GIVEN_ID.fullmatch(given):
            return given
        # Not os.urandom: an id is no secret, and a call of the kernel would hand the interpreter to another thread.
        return f"{random.getrandbits(64):016x}"

    def log(self, request_id: str, http_status: int, status: str, seconds: float) -> None:
        """One line a request; of what looks after the API only where something is wrong, or with -vv."""
        level = logging.DEBUG if self.route in _PROBES and http_status == 200 else logging.INFO
        if not log.isEnabledFor(level):
            return
        facts: dict[str, Any] = {
            "request_id": request_id,
            "method": self.method if self.method in _METHODS else "other",
            "route": self.route,
            "http_status": http_status,
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
        }
        if self.account_id is not None:
            facts["account_id"] = self.account_id
        if self.client is not None:
            facts["client"] = self.client
        if self.limit is not None:
            facts["limit"] = self.limit
        log.log(level, "api.request", extra={"facts": facts})


def log_each_request() -> None:
    """Have the requests' lines written wherever warnings are: they are what a server has to say when all is well."""
    quiet = not logging.getLogger("monitor_cli").isEnabledFor(logging.WARNING)
    verbose = logging.getLogger("monitor_cli").isEnabledFor(logging.DEBUG)
    log.setLevel(logging.NOTSET if quiet or verbose else logging.INFO)
