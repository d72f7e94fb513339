"""Resolving customers' host names in a few threads of our own, so that no look-up stops the event loop or the exit,
and no customer's unanswered names stop another customer's.

A name is resolved once and all its addresses are judged (judged_addresses); the transport is then pinned to them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from typing import Any

from monitor_cli.errors import MonitorError, OutsideError
from monitor_cli.outbound.addresses import WHOSE, Policy, refusal
from monitor_cli.outbound.url import RefusedURL, Target

PER_ACCOUNT = 4
"""Look-ups of one account under way at a time."""

_REUSE_SECONDS = 30.0
_REFUSED_SECONDS = 3.0  # a failure is not asked for again, but by the first retry
_SLOW_SECONDS = 1.0  # a failure that took so long is remembered as long as an answer: it cost a thread
_REMEMBERED = 4096
_NO_SUCH_NAME = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}
# What a resolver says where a name's own servers fail or are silent, and also where it cannot ask anybody.
_NOT_ANSWERED = {socket.EAI_AGAIN, socket.EAI_FAIL}

_Addresses = Future[list[str]]


class NoSuchName(MonitorError):
    """The name does not exist, or has no address: the customer's fault."""


class NameServersFail(MonitorError):
    """The name is not answered while others are: the customer's fault."""


class ResolverFailed(OutsideError):
    """The name could not be looked up: a fault on our side."""


class _Name:
    """A name that is looked up, or will be: who waits for it, and when that began (None: it is in a queue)."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.waiting: list[_Addresses] = []
        self.began: float | None = None

    @property
    def wanted(self) -> bool:
        return self.began is None and bool(self.waiting)


class Resolver:
    """Looks names up in at most `threads` daemon threads, started when needed.

    Turns go round the accounts, each with at most PER_ACCOUNT look-ups under way. `lookup` is called as
    socket.getaddrinfo is; `wake` is called from a thread whenever a result has arrived (it must be safe there, and
    quick). Look-ups under way are shared; addresses found are reused for 30 s, failures of a customer's for less,
    unless they were slow."""

    def __init__(
        self,
        threads: int = 64,
        lookup: Callable[..., Iterable[Any]] = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self._limit = threads
        self._lookup = lookup
        self._clock = clock
        self._wake = wake
        self._changed = threading.Condition()
        self._threads = self._idle = 0
        self._closed = False
        self._names: dict[str, _Name] = {}
        self._queues: OrderedDict[Hashable, deque[_Name]] = OrderedDict()
        self._under_way: Counter[Hashable] = Counter()
        self._known: OrderedDict[str, tuple[float, _Addresses]] = OrderedDict()
        self._answered_at: float | None = None  # when any name was last answered, be it that it does not exist

    def resolve(self, host: str, port: int, account: Hashable = None) -> _Addresses:
        """The future addresses of a name (IP text, each once, in the resolver's order); done at once where they are
        known. Its result() raises NoSuchName, NameServersFail or ResolverFailed. Who waits no longer says so
        (give_up)."""
        with self._changed:
            if known := self._known.get(host):
                if self._clock() < known[0]:
                    return known[1]
                del self._known[host]
            future: _Addresses = Future()
            name = self._names.setdefault(host, _Name(host, port))
            name.waiting.append(future)
            if name.began is None:  # also where another account has it in its queue: whoever's turn comes first
                self._queues.setdefault(account, deque()).append(name)
                if self._under_way[account] < PER_ACCOUNT:
                    self._see_to_threads()
        return future

    def give_up(self, host: str, future: _Addresses) -> None:
        """End the wait for a name: the future says what that means, unless it is answered this very moment. What nobody
        waits for any more is not begun."""
        with self._changed:
            name = self._names.get(host)
            if name is None or future not in name.waiting:
                return
            name.waiting.remove(future)
            if not name.waiting and name.began is None:
                del self._names[host]
            failure = self._meaning_of_silence(name)
        future.set_exception(failure)

    def close(self) -> None:
        """Let the threads end once their present look-up does; nothing waits for them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- turns ------------------------------------------------------------------------------------------------------

    def _see_to_threads(self) -> None:
        if self._idle:
            self._idle -= 1  # here, so that the next to come does not count on the same thread
            self._changed.notify()
        elif self._threads < self._limit:
            # Where the system gives no thread, those that there are go on, or nobody's turn comes in time.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._work, name=f"resolver-{self._threads + 1}", daemon=True).start()
                self._threads += 1

    def _next(self) -> tuple[Hashable, _Name] | None:
        """The next name to look up, of the account whose turn it is and that has not too many under way."""
        for account, queue in list(self._queues.items()):
            while queue and not queue[0].wanted:
                queue.popleft()
            if not queue:
                del self._queues[account]
            elif self._under_way[account] < PER_ACCOUNT:
                self._queues.move_to_end(account)
                return account, queue.popleft()
        return None

    def _take(self) -> tuple[Hashable, _Name] | None:
        with self._changed:
            while not self._closed:
                if found := self._next():
                    account, name = found
                    self._under_way[account] += 1
                    name.began = self._clock()
                    return found
                self._idle += 1
                self._changed.wait()
        return None

    def _work(self) -> None:
        while taken := self._take():
            account, name = taken
            try:
                result = self._ask(name)
            except Exception as error:
                # Whatever a look-up raises: a thread that died of it would leave its callers waiting for ever.
                result = _failure(name.host, error)
            self._arrive(account, name, result)

    # --- what came of it ----------------------------------------------------------------------------------------------

    def _ask(self, name: _Name) -> list[str] | MonitorError:
        try:
            addresses = self._lookup(name.host, name.port, type=socket.SOCK_STREAM)
            result: list[str] | MonitorError = _addresses(name.host, addresses)
        except socket.gaierror as error:
            if error.errno in _NOT_ANSWERED and self._others_are_answered(name):
                return _servers_fail(name.host)
            raise
        return result

    def _others_are_answered(self, name: _Name) -> bool:
        """Whether a name that is not answered is the only one. Where nobody asked for another meanwhile, its top-level
        domain is asked: that it has no address is an answer too."""
        if self._answered_since(name):
            return True
        _, dot, domain = name.host.rpartition(".")
        if not dot:
            return False
        try:
            self._lookup(domain + ".", name.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno not in _NO_SUCH_NAME:
                return False
        with self._changed:
            self._answered_at = self._clock()
        return True

    def _answered_since(self, name: _Name) -> bool:
        """Whether any name was answered since this one's look-up began: not this one, so another."""
        return name.began is not None and self._answered_at is not None and self._answered_at > name.began

    def _meaning_of_silence(self, name: _Name) -> MonitorError:
        if name.began is None:
            return ResolverFailed(f"the name {name.host} could not be looked up: its turn did not come in time")
        if self._answered_since(name):
            return _servers_fail(name.host)
        return ResolverFailed("the resolver does not answer", "check this host's resolver")

    def _arrive(self, account: Hashable, name: _Name, result: list[str] | MonitorError) -> None:
        with self._changed:
            self._under_way[account] -= 1
            if not self._under_way[account]:
                del self._under_way[account]
            del self._names[name.host]
            waiting, name.waiting = name.waiting, []
            self._remember(name, result)
        # Outside the lock, since a future's callbacks may ask us again; before the wake, which has it looked for.
        for future in waiting:
            _settle(future, result)
        if self._wake:
            # The loop that is to be woken may have ended already: its pipe is closed.
            with contextlib.suppress(OSError, ValueError):
                self._wake()

    def _remember(self, name: _Name, result: list[str] | MonitorError) -> None:
        if isinstance(result, ResolverFailed) or name.began is None:
            return  # a fault of ours may be over the next moment
        now = self._clock()
        if not isinstance(result, NameServersFail):
            self._answered_at = now
        slow = now - name.began >= _SLOW_SECONDS
        seconds = _REUSE_SECONDS if slow or isinstance(result, list) else _REFUSED_SECONDS
        future: _Addresses = Future()
        _settle(future, result)
        self._known[name.host] = (now + seconds, future)
        self._known.move_to_end(name.host)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def judged_addresses(target: Target, answers: Iterable[str], policy: Policy) -> list[str]:
    """The addresses to pin a request to: all of them, or none. Raises RefusedURL where one is refused, in the words
    that check_url has for it."""
    addresses = list(dict.fromkeys(answers))
    for address in addresses:
        if reason := refusal(address, policy):
            raise RefusedURL(f"the URL is refused: {target.host} resolves to an address that is: {reason}", WHOSE)
    return addresses


def _settle(future: _Addresses, result: list[str] | MonitorError) -> None:
    if isinstance(result, list):
        future.set_result(result)
    else:
        future.set_exception(result)


def _servers_fail(host: str) -> NameServersFail:
    return NameServersFail(f"the name {host} could not be looked up: its name servers fail or do not answer")


def _addresses(host: str, answers: Iterable[Any]) -> list[str] | MonitorError:
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    return addresses or NoSuchName(f"the name {host} has no address")


def _failure(host: str, error: Exception) -> MonitorError:
    if isinstance(error, MonitorError):
        return error
    if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
        return NoSuchName(f"the name {host} does not exist")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ResolverFailed(f"the name {host} could not be looked up: {reason}", "check this host's resolver")
