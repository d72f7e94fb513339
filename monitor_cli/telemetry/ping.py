"""Telling a URL how a run goes, as dead man's switches want it (healthchecks.io and its kin): URL/start, URL, URL/fail.

Nothing here may fail or hold up a run: requests go out from a thread of their own, have a short total time, and what
becomes of them is a line of -v alone.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from urllib.parse import urlsplit, urlunsplit

import requests

from monitor_cli import __version__
from monitor_cli.sources.causes import cause_of
from monitor_cli.sources.connections import Adapter, Connections

log = logging.getLogger(__name__)

TOTAL_SECONDS = 3.0  # of one request, from the name's look-up to the answer's head
REDIRECTS = 3


class Pinger:
    """Sends pings one after the other. Makes its thread at the first: not before a fork."""

    def __init__(self, url: str, total_seconds: float = TOTAL_SECONDS) -> None:
        self._url = url
        self._total = total_seconds
        self._todo: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """A run begins."""
        self._later("start")

    def success(self) -> None:
        """A run ended well, or goes on well."""
        self._later("success")

    def fail(self) -> None:
        """A run failed."""
        self._later("fail")

    def close(self) -> None:
        """Wait until all are sent, but no longer than one may take and a bit."""
        if self._thread is not None:
            self._todo.put(None)
            self._thread.join(self._total + 0.5)

    def _later(self, what: str) -> None:
        if not self._url:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ping", daemon=True)
            self._thread.start()
        self._todo.put(what)

    def _work(self) -> None:
        while (what := self._todo.get()) is not None:
            started = time.monotonic()
            try:
                status = send(address(self._url, what), self._total)
                facts = {"what": what, "http_status": status, "ms": int((time.monotonic() - started) * 1000)}
                if status < 400:
                    log.info("ping.sent", extra={"facts": facts})
                else:
                    log.info("ping.failed", extra={"facts": facts})
            except Exception as error:  # whatever it is, the run goes on; the URL is in no words, a key is in it
                log.info("ping.failed", extra={"facts": {"what": what, "reason": cause_of(error)}})


def address(url: str, what: str) -> str:
    """Where a ping goes: `what` start and fail stand after the path, before a query; success is the URL itself."""
    if what == "success":
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{what}", fragment=""))


def send(url: str, total_seconds: float) -> int:
    """GET it; gives the HTTP status. Raises what requests raises, at the latest after `total_seconds`."""
    connections = Connections()
    alarm = threading.Timer(total_seconds, connections.cut)
    alarm.daemon = True
    alarm.start()
    try:
        with requests.Session() as session:
            session.max_redirects = REDIRECTS
            for scheme in ("http://", "https://"):
                session.mount(scheme, Adapter(connections))
            headers = {"User-Agent": f"monitor-cli/{__version__}", "Accept-Encoding": "identity"}
            with session.get(url, headers=headers, timeout=total_seconds, stream=True) as answer:
                return answer.status_code
    finally:
        alarm.cancel()
