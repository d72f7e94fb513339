"""Prometheus metrics of the incident API, the same from whichever worker answers /metrics.

prometheus-client's multiprocess mode: each worker counts in files of its own in PROMETHEUS_MULTIPROC_DIR, and the one
that is asked adds all up. A file belongs to a numbered place, not to a process id: who takes a dead worker's place
counts on in its files, so there are never more of them than there were workers at once, and no counter falls.
"""

from __future__ import annotations

import fcntl
import os
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name for it

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS = frozenset(("GET", "HEAD", "POST"))

_place: int | None = None  # this process's, once it has one: file locks end with the process


class Metrics:
    """What is counted. In the multiprocess directory where the environment names one, else in this process alone."""

    def __init__(self) -> None:
        self._directory = os.environ.get(DIRECTORY)
        if self._directory:
            _take_place(Path(self._directory))
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "monitor_api_requests",
            "Requests answered, by HTTP code and by the status in the document",
            ("route", "method", "code", "status"),
            registry=self._registry,
        )
        self._limited = Counter(
            "monitor_api_limited", "Requests refused with 429, by the limit", ("limit",), registry=self._registry
        )
        self._seconds = Histogram(
            "monitor_api_request_seconds", "Time to answer /v1/", registry=self._registry, buckets=_SECONDS
        )
        self._counters: dict[tuple[str, str, int, str], Counter] = {}  # labels() takes longer than counting

    def answered(self, route: str, method: str, code: int, status: str, seconds: float) -> None:
        """Count an answer. `route` and `status` are of our own making, so labels stay few whatever clients send."""
        labels = (route, method if method in _METHODS else "other", code, status)
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self._requests.labels(*labels)
        counter.inc()
        if route == "/v1/":
            self._seconds.observe(seconds)

    def limited(self, limit: str) -> None:
        self._limited.labels(limit).inc()

    def text(self) -> bytes:
        """All workers' metrics in Prometheus' text format."""
        if not self._directory:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._directory)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _take_place(directory: Path) -> None:
    """Count in files of the first place that no living process has."""
    global _place
    if _place is not None:
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _place = next(place for place in count() if _take(directory / f"place-{place}.lock"))
    values.ValueClass = values.MultiProcessValue(lambda: _place)  # type: ignore[no-untyped-call]


def _take(lock: Path) -> bool:
    """Whether the lock is ours from now on, as long as this process lives."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True
