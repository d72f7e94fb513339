"""Resolving customers' host names in a few threads of our own, so that no lookup stops the event loop or the exit.

A name is resolved once and all its addresses are judged (judged_addresses); the transport is then pinned to them.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from monitor_cli.errors import MonitorError, OutsideError
from monitor_cli.outbound.addresses import Policy, refusal
from monitor_cli.outbound.url import RefusedURL, Target

_REUSE_SECONDS = 30.0
_REMEMBERED = 4096
_NO_SUCH_NAME = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}


class NoSuchName(MonitorError):
    """The name does not exist, or has no address: the customer's fault."""


class ResolverFailed(OutsideError):
    """The name could not be looked up: a fault on our side."""


class Resolver:
    """Looks names up in at most `threads` daemon threads, started when needed.

    `lookup` is called as socket.getaddrinfo is; `wake` is called from a thread whenever a result has arrived (it must
    be safe there, and quick). Lookups under way are shared; addresses found are reused for 30 s."""

    def __init__(
        self,
        threads: int = 32,
        lookup: Callable[..., Iterable[Any]] = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self._limit = threads
        self._lookup = lookup
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._under_way: dict[str, Future[list[str]]] = {}
        self._known: OrderedDict[str, tuple[float, Future[list[str]]]] = OrderedDict()

    def resolve(self, host: str, port: int) -> Future[list[str]]:
        """The future addresses of a name (IP text, each once, in the resolver's order); done at once where they are
        known. Its result() raises NoSuchName or ResolverFailed. Do not cancel it: others may wait for it too."""
        with self._lock:
            if known := self._known.get(host):
                if self._clock() < known[0]:
                    return known[1]
                del self._known[host]
            if future := self._under_way.get(host):
                return future
            future = self._under_way[host] = Future()
            if self._threads < min(self._limit, len(self._under_way)):
                self._threads += 1
                threading.Thread(target=self._work, name=f"resolver-{self._threads}", daemon=True).start()
            self._waiting.put((host, port))
        return future

    def close(self) -> None:
        """Let the threads end once their present lookup does; nothing waits for them."""
        with self._lock:
            for _ in range(self._threads):
                self._waiting.put(None)

    def _work(self) -> None:
        while job := self._waiting.get():
            host, port = job
            try:
                result: list[str] | MonitorError = _addresses(host, self._lookup(host, port, type=socket.SOCK_STREAM))
            except Exception as error:
                # Whatever a lookup raises: a thread that died of it would leave its callers waiting for ever.
                result = _failure(host, error)
            self._arrive(host, result)

    def _arrive(self, host: str, result: list[str] | MonitorError) -> None:
        with self._lock:
            future = self._under_way.pop(host)
            if isinstance(result, list):
                self._known[host] = (self._clock() + _REUSE_SECONDS, future)
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        # Outside the lock, since a future's callbacks may ask us again; before the wake, which has it looked for.
        if isinstance(result, list):
            future.set_result(result)
        else:
            future.set_exception(result)
        if self._wake:
            # The loop that is to be woken may have ended already: its pipe is closed.
            with contextlib.suppress(OSError, ValueError):
                self._wake()


def judged_addresses(target: Target, answers: Iterable[str], policy: Policy) -> list[str]:
    """The addresses to pin a request to: all of them, or none. Raises RefusedURL where one is refused, in the words
    that check_url has for it."""
    addresses = list(dict.fromkeys(answers))
    for address in addresses:
        if reason := refusal(address, policy):
            raise RefusedURL(
                f"the URL is refused: {target.host} resolves to an address that is: {reason}",
                "the operator can permit a network with allow_networks",
            )
    return addresses


def _addresses(host: str, answers: Iterable[Any]) -> list[str]:
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    if not addresses:
        raise NoSuchName(f"the name {host} has no address")
    return addresses


def _failure(host: str, error: Exception) -> MonitorError:
    if isinstance(error, MonitorError):
        return error
    if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
        return NoSuchName(f"the name {host} does not exist")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ResolverFailed(f"the name {host} could not be looked up: {reason}", "check this host's resolver")
