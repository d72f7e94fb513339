"""Sending: many requests at once on libcurl, each with one deadline over all of it, to judged addresses only.

libcurl keeps the connections; Sockets waits for them and for `wake` (CurlMulti's own select cannot be woken). The
deadlines are kept here: libcurl looks at its clock before it looks at a socket, so that after a stop of ours (SIGSTOP,
a virtual machine that was moved) it would throw away an answer that had come in time. A request goes to the addresses
it is given (CURLOPT_RESOLVE), whatever the name resolves to by then, and the socket hook judges every address that is
dialled once more.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pycurl

from monitor_cli import __version__
from monitor_cli.outbound.addresses import Policy, refusal
from monitor_cli.outbound.sockets import Sockets
from monitor_cli.outbound.transfer import ANSWER_LIMIT, Answer, Transfer
from monitor_cli.outbound.url import Target

USER_AGENT = f"monitor-cli/{__version__}"
CONNECTION_SECONDS = 60
"""A connection that is older takes no further request: its name may have moved to another server."""
BATCH = 16  # requests that libcurl is driven for at once, at a third of what one by one costs
EXPECTS = 1024  # bytes of a body from which on some libcurl asks first whether it may send it


class Outgoing(NamedTuple):
    """One request as it goes on the wire, a GET where it has no body. `addresses` are the judged ones of the target's
    name (none for a literal); `ends` is the deadline over all of it, by the monotonic clock; `added` are headers that
    follow the others, and none that libcurl would set itself."""

    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    target: Target
    addresses: Sequence[str]
    ends: float
    added: Sequence[tuple[str, str]] = ()


def allow_open_files(wanted: int) -> int:
    """Raise this process's limit of open files towards `wanted`, as far as its hard limit lets; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


class _Dialling:
    """A socket for libcurl. pycurl takes a duplicate of its file and drops it; a socket.socket that is dropped open
    makes up a warning each time, with both addresses in it, whether anybody wants to read it or not."""

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        self._file = socket.socket(family, kind, protocol).detach()

    def fileno(self) -> int:
        return self._file

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it could not be made
            os.close(self._file)


class Transport:
    """Requests in flight. `start` takes one with a key; `wait` returns the (key, Answer) pairs that came in.

    `policy` judges every dialled address; `ca_file` replaces the system's certificate authorities; `pool` connections
    are kept open for the next request, none longer than `lifetime` seconds."""

    def __init__(
        self,
        policy: Policy,
        connect_timeout: float,
        ca_file: str | None = None,
        pool: int = 512,
        lifetime: int = CONNECTION_SECONDS,
    ) -> None:
        self._policy = policy
        self._connect_ms = max(1, int(connect_timeout * 1000))
        self._ca_file = ca_file
        self._lifetime = lifetime
        self._multi = pycurl.CurlMulti()
        self._sockets = Sockets(2 * ANSWER_LIMIT)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._sockets.watch)
        self._multi.setopt(pycurl.M_MAXCONNECTS, pool)
        # Looked up each time, which pycurl does in its own way, a call would cost a half more.
        self._drive = self._multi.socket_action
        self._add = self._multi.add_handle
        self._remove = self._multi.remove_handle
        self._ended: list[tuple[Any, Answer | None]] = []  # what the next `wait` gives
        self._first_end = float("inf")  # no request under way has an earlier deadline
        self._added = 0  # taken, and not driven yet
        self._begun = False  # something was started since the last `wait`
        self._idle: list[Transfer] = []
        self._flying: dict[pycurl.Curl, Transfer] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def start(self, key: Any, out: Outgoing) -> None:
        """Begin one request, at the latest with the next `wait`, from which its answer comes with this key."""
        transfer = self._idle.pop() if self._idle else self._new_transfer()
        transfer.begin(key, out.ends)
        if out.ends < self._first_end:
            self._first_end = out.ends
        _set_request(transfer, out)
        self._flying[transfer.curl] = transfer
        self._add(transfer.curl)
        self._added += 1
        if self._added >= BATCH:
            self._begin_added()

    def wait(self, seconds: float) -> list[tuple[Any, Answer | None]]:
        """Drive what is in flight until something came in, `wake` was called or `seconds` have passed. None for an
        answer: we were stopped before it was sent, and who asked for it has to judge anew whether it may start."""
        self._begin_added()
        looked = time.monotonic()
        timeout = 0.0 if self._begun else min(seconds, self._next_time(looked))  # one that failed is done already
        self._begun = False
        for fd, action in self._sockets.ready(max(0.0, timeout)):
            self._drive(fd, action)
            if self._sockets.flooded(fd):
                self._cut_off(fd)
        if self._multi.timeout() == 0:
            self._drive(pycurl.SOCKET_TIMEOUT, 0)
        if self._first_end <= looked:
            self._end_overdue(looked)
        return self._finished()

    def wake(self) -> None:
        """Make a `wait` under way, or the next one, return at once. May be called from threads and signal handlers."""
        self._sockets.wake()

    def close(self) -> None:
        for curl in self._flying:
            self._remove(curl)
            curl.close()
        for transfer in self._idle:
            transfer.curl.close()
        self._multi.close()
        self._sockets.close()

    # --- libcurl's side -------------------------------------------------------------------------------------------

    def _new_transfer(self) -> Transfer:
        curl = pycurl.Curl()
        transfer = Transfer(curl)
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.CONNECTTIMEOUT_MS, self._connect_ms),
            (pycurl.MAXLIFETIME_CONN, self._lifetime),
            (pycurl.DNS_CACHE_TIMEOUT, -1),  # RESOLVE says it anew; else each request has all of the cache looked over
            (pycurl.USERAGENT, USER_AGENT),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.OPENSOCKETFUNCTION, lambda purpose, address: self._open(transfer, address)),
            (pycurl.SOCKOPTFUNCTION, self._sockets.opened),
        ):
            curl.setopt(option, value)
        if self._ca_file:
            curl.setopt(pycurl.CAINFO, self._ca_file)
        return transfer

    def _begin_added(self) -> None:
        if self._added:
            self._added = 0
            self._begun = True
            self._drive(pycurl.SOCKET_TIMEOUT, 0)

    def _next_time(self, now: float) -> float:
        """Seconds until a deadline, or until libcurl wants to be called."""
        millis = self._multi.timeout()
        return self._first_end - now if millis < 0 else min(millis / 1000, self._first_end - now)

    def _end_overdue(self, looked: float) -> None:
        """End what was under way past its deadline when the sockets were `looked` at: whatever had come by then has
        been read, however long we were stopped before."""
        self._finish_queued()
        now = time.monotonic()
        for transfer in list(self._flying.values()):
            if transfer.ends <= looked:
                self._finish(transfer.curl, pycurl.E_OPERATION_TIMEDOUT, "", now)
        self._first_end = min((transfer.ends for transfer in self._flying.values()), default=float("inf"))

    def _open(self, transfer: Transfer, address: Any) -> _Dialling | int:
        family, kind, protocol, where = address
        reason = refusal(str(where[0]), self._policy) if isinstance(where, tuple) else "is no network address"
        if reason:
            transfer.refused = reason
            return pycurl.SOCKET_BAD
        transfer.dialled = f"{where[0]} port {where[1]}"
        try:
            return _Dialling(family, kind, protocol)
        except OSError:
            transfer.starved = True
            return pycurl.SOCKET_BAD

    def _cut_off(self, fd: int) -> None:
        """End what goes on without end and without libcurl's telling us."""
        for transfer in list(self._flying.values()):
            if transfer.curl.getinfo(pycurl.ACTIVESOCKET) == fd:
                transfer.flooded = True
                self._finish(transfer.curl, pycurl.E_WRITE_ERROR, "", time.monotonic())

    def _finished(self) -> list[tuple[Any, Answer | None]]:
        self._finish_queued()
        ended, self._ended = self._ended, []
        return ended

    def _finish_queued(self) -> None:
        now = time.monotonic()
        queued = 1
        while queued:
            queued, good, bad = self._multi.info_read()
            for curl in good:
                self._finish(curl, None, "", now)
            for curl, code, words in bad:
                self._finish(curl, code, words, now)

    def _finish(self, curl: pycurl.Curl, code: int | None, words: str, now: float) -> None:
        """Its handle is free for another request."""
        transfer = self._flying.pop(curl)
        self._ended.append((transfer.key, transfer.answer(code, words, now)))
        transfer.key = None
        self._remove(curl)
        self._idle.append(transfer)


def _set_request(transfer: Transfer, out: Outgoing) -> None:
    setopt = transfer.curl.setopt
    setopt(pycurl.URL, out.url)
    lines = [(f"{name}: {value}" if value else f"{name};").encode("latin-1") for name, value in out.headers]
    if out.body is None:
        setopt(pycurl.HTTPGET, 1)
    else:
        setopt(pycurl.POSTFIELDS, out.body)  # makes it a POST
        if len(out.body) >= EXPECTS:
            lines.append(b"Expect:")
    if out.added:
        # As one: libcurl looks for its own headers in each, and sends each as it stands (test_transport has it).
        lines.append("\r\n".join([f"{name}: {value}" for name, value in out.added]).encode("latin-1"))
    if lines:
        setopt(pycurl.HTTPHEADER, lines)
    else:  # an empty list would leave the last request's as they are
        transfer.curl.unsetopt(pycurl.HTTPHEADER)
    if out.addresses:
        pinned = ",".join(f"[{a}]" if ":" in a else a for a in out.addresses)
        setopt(pycurl.RESOLVE, [f"{out.target.host}:{out.target.port}:{pinned}"])
    elif transfer.pinned:
        transfer.curl.unsetopt(pycurl.RESOLVE)
    transfer.pinned = bool(out.addresses)
