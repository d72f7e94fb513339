"""Sending: many requests at once on libcurl, each with one deadline over all of it, to judged addresses only.

libcurl keeps the connections and the deadlines; epoll waits for its sockets and for `wake` (CurlMulti's own select
cannot be woken). A request goes to the addresses it is given (CURLOPT_RESOLVE), whatever the name resolves to by then,
and the socket hook judges every address that is dialled once more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pycurl

from monitor_cli import __version__
from monitor_cli.outbound.addresses import Policy, refusal
from monitor_cli.outbound.faults import fault_words
from monitor_cli.outbound.meter import Meter
from monitor_cli.outbound.url import Target

USER_AGENT = f"monitor-cli/{__version__}"
ANSWER_LIMIT = 64 * 1024  # headers and body
KEPT = 4096
CONNECTION_SECONDS = 60
"""A connection that is older takes no further request: its name may have moved to another server."""
BATCH = 16  # requests that libcurl is driven for at once, at a third of what one by one costs
STOPPED_SECONDS = 0.5  # between taking a request and driving it nothing takes that long, unless we were stopped

# The kernel has no way out, or nothing left to give: no customer can be blamed.
_NO_NETWORK = {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LOCAL_CODES = {
    pycurl.E_OUT_OF_MEMORY,
    pycurl.E_FAILED_INIT,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_ENGINE_INITFAILED,
}


class Outgoing(NamedTuple):
    """One request as it goes on the wire. `addresses` are the judged ones of the target's name (none for a literal);
    `seconds` is the deadline over all of it."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    target: Target
    addresses: Sequence[str]
    seconds: float


class Answer(NamedTuple):
    """What came of a request: an HTTP status, or an error in words.

    `arrived`: without a status, whether the customer may have it all the same (a byte was sent). `local` says that the
    fault is ours: "network" (no way out), "resources" or "resolver". `response` is the start of the body, at most
    4 KiB; `head` all header lines as they came, those of 1xx answers and trailers too. `repeated`: the status answers
    the second of two sendings, and the customer may have taken the first."""

    http_status: int | None
    error: str | None
    response: bytes
    retry_after: str | None
    duration_ms: int
    arrived: bool
    local: str | None = None
    head: bytes = b""
    repeated: bool = False


def allow_open_files(wanted: int) -> int:
    """Raise this process's limit of open files towards `wanted`, as far as its hard limit lets; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


class _Transfer:
    """An easy handle and what its answer has brought so far. Handles are used again, one request after the other."""

    def __init__(self, curl: pycurl.Curl) -> None:
        self.curl = curl
        self.lines: list[bytes] = []
        curl.setopt(pycurl.HEADERFUNCTION, self._line)
        curl.setopt(pycurl.WRITEFUNCTION, self._body)
        self.begin(None)

    def begin(self, key: Any) -> None:
        self.key = key
        self.lines.clear()
        self.kept = bytearray()
        self.size = 0
        self.refused: str | None = None
        self.starved = False
        self.flooded = False
        self.sendings = 0
        self.dialled = ""
        self.started = time.monotonic()

    def head(self) -> tuple[int | None, str | None]:
        """The status of the final answer, once its headers are complete, and its Retry-After. What follows the blank
        line is another answer after a 1xx, else trailers."""
        status, retry_after, first = None, None, True
        for line in self.lines:
            if first:  # a later line that looks like a status line is a header that forges one
                status, retry_after, first = _status(line), None, False
            elif line in (b"\r\n", b"\n"):
                if status is not None and status >= 200:
                    return status, retry_after
                first = True
            elif line[:12].lower() == b"retry-after:":
                retry_after = line[12:].decode("latin-1").strip()
        return None, None

    def _line(self, line: bytes) -> int | None:
        self.size += len(line)
        if self.size > ANSWER_LIMIT:
            self.flooded = True
            return -1
        self.lines.append(line)
        return None

    def _body(self, data: bytes) -> int | None:
        self.size += len(data)
        if len(self.kept) < KEPT:
            self.kept += data[: KEPT - len(self.kept)]
        return -1 if self.size > ANSWER_LIMIT else None


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
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, pool)
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._meter = Meter(2 * ANSWER_LIMIT)
        self._cut: list[tuple[Any, Answer | None]] = []
        self._timer: float | None = None
        self._added: list[_Transfer] = []  # taken, and not driven yet
        self._added_at = 0.0
        self._late: list[Any] = []
        self._begun = False  # something was started since the last `wait`
        self._idle: list[_Transfer] = []
        self._flying: dict[pycurl.Curl, _Transfer] = {}
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._epoll.register(self._wake_reader.fileno(), select.EPOLLIN)

    def __len__(self) -> int:
        return len(self._flying)

    def start(self, key: Any, out: Outgoing) -> None:
        """Begin one request, at the latest with the next `wait`, from which its answer comes with this key."""
        transfer = self._idle.pop() if self._idle else self._new_transfer()
        transfer.begin(key)
        self._set_request(transfer.curl, out)
        self._flying[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)
        if not self._added:
            self._added_at = transfer.started
        self._added.append(transfer)
        if len(self._added) >= BATCH:
            self._begin_added()

    def wait(self, seconds: float) -> list[tuple[Any, Answer | None]]:
        """Drive what is in flight until something came in, `wake` was called or `seconds` have passed. None for an
        answer: we were stopped before it was begun, and who asked for it has to judge anew whether it may start."""
        self._begin_added()
        timeout = 0.0 if self._begun else seconds  # one that failed at once is finished already
        self._begun = False
        if self._timer is not None:
            timeout = min(timeout, max(0.0, self._timer - time.monotonic()))
        for fd, events in self._epoll.poll(timeout):
            if fd == self._wake_reader.fileno():
                self._drain_wake()
            else:
                self._multi.socket_action(fd, _action(events))
                if self._meter.over(fd):
                    self._cut_off(fd)
        if self._timer is not None and self._timer <= time.monotonic():
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._finished()

    def wake(self) -> None:
        """Make a `wait` under way, or the next one, return at once. May be called from threads and signal handlers."""
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            self._wake_writer.send(b"\0")

    def close(self) -> None:
        for curl in self._flying:
            self._multi.remove_handle(curl)
            curl.close()
        for transfer in self._idle:
            transfer.curl.close()
        self._multi.close()
        self._epoll.close()
        self._wake_reader.close()
        self._wake_writer.close()

    # --- libcurl's side -------------------------------------------------------------------------------------------

    def _new_transfer(self) -> _Transfer:
        curl = pycurl.Curl()
        transfer = _Transfer(curl)
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
            (pycurl.USERAGENT, USER_AGENT),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.PREREQFUNCTION, lambda *_: _count_sending(transfer)),
            (pycurl.OPENSOCKETFUNCTION, lambda purpose, address: self._open(transfer, address)),
        ):
            curl.setopt(option, value)
        if self._ca_file:
            curl.setopt(pycurl.CAINFO, self._ca_file)
        return transfer

    def _begin_added(self) -> None:
        """libcurl's deadline begins when it is first driven: a process that was stopped in between would still send
        what its lease no longer allows."""
        added, self._added = self._added, []
        if not added:
            return
        self._begun = True
        if time.monotonic() - self._added_at < STOPPED_SECONDS:
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        else:
            self._late += [self._land(transfer) for transfer in added]

    def _set_request(self, curl: pycurl.Curl, out: Outgoing) -> None:
        curl.setopt(pycurl.URL, out.url)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(out.seconds * 1000)))
        lines = [f"{name}: {value}" if value else f"{name};" for name, value in out.headers]
        if out.body is None:
            curl.setopt(pycurl.HTTPGET, 1)
        else:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDS, out.body)
            lines.append("Expect:")
        if lines:
            curl.setopt(pycurl.HTTPHEADER, [line.encode("latin-1") for line in lines])
        else:  # an empty list would leave the last request's as they are
            curl.unsetopt(pycurl.HTTPHEADER)
        if out.addresses:
            pinned = ",".join(f"[{a}]" if ":" in a else a for a in out.addresses)
            curl.setopt(pycurl.RESOLVE, [f"{out.target.host}:{out.target.port}:{pinned}"])
        else:
            curl.unsetopt(pycurl.RESOLVE)

    def _open(self, transfer: _Transfer, address: Any) -> _Dialling | int:
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

    def _watch(self, event: int, fd: int, _multi: Any, _data: Any) -> None:
        if event == pycurl.POLL_REMOVE:
            if fd in self._watched:
                self._watched.discard(fd)
                self._meter.end(fd)
                with contextlib.suppress(OSError):  # libcurl may have closed it already
                    self._epoll.unregister(fd)
            return
        mask = (select.EPOLLIN if event & pycurl.POLL_IN else 0) | (select.EPOLLOUT if event & pycurl.POLL_OUT else 0)
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._watched.add(fd)
            self._meter.begin(fd)
            self._epoll.register(fd, mask)

    def _cut_off(self, fd: int) -> None:
        """End what goes on without end and without libcurl's telling us."""
        for transfer in list(self._flying.values()):
            if transfer.curl.getinfo(pycurl.ACTIVESOCKET) == fd:
                transfer.flooded = True
                self._cut.append(self._finish(transfer.curl, pycurl.E_WRITE_ERROR, ""))

    def _set_timer(self, millis: int) -> None:
        self._timer = None if millis < 0 else time.monotonic() + millis / 1000

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass

    def _finished(self) -> list[tuple[Any, Answer | None]]:
        answers: list[tuple[Any, Answer | None]] = [(key, None) for key in self._late]
        self._late.clear()
        answers += self._cut
        self._cut = []
        while True:
            queued, good, bad = self._multi.info_read()
            answers += [self._finish(curl, None, "") for curl in good]
            answers += [self._finish(curl, code, words) for curl, code, words in bad]
            if not queued:
                return answers

    def _finish(self, curl: pycurl.Curl, code: int | None, words: str) -> tuple[Any, Answer]:
        transfer = self._flying[curl]
        answer = _answer(transfer, code, words)
        return self._land(transfer), answer

    def _land(self, transfer: _Transfer) -> Any:
        """Its handle is free for another request. Returns its key."""
        del self._flying[transfer.curl]
        self._multi.remove_handle(transfer.curl)
        self._idle.append(transfer)
        key, transfer.key = transfer.key, None
        return key


def _count_sending(transfer: _Transfer) -> int:
    """libcurl is about to send; a second time where a connection that was used before ended without an answer."""
    transfer.sendings += 1
    return pycurl.PREREQFUNC_OK


def _answer(transfer: _Transfer, code: int | None, words: str) -> Answer:
    duration = int((time.monotonic() - transfer.started) * 1000)
    status, retry_after = transfer.head()
    if status is not None:  # the status line and headers decide, whatever the body did
        head = b"".join(transfer.lines)
        repeated = transfer.sendings > 1
        return Answer(status, None, bytes(transfer.kept), retry_after, duration, True, head=head, repeated=repeated)
    sent = transfer.curl.getinfo(pycurl.REQUEST_SIZE) > 0
    error = _own_words(transfer) or fault_words(
        code, words, sent, duration / 1000, transfer.dialled, transfer.curl.getinfo(pycurl.OS_ERRNO)
    )
    return Answer(None, error, b"", None, duration, sent, None if sent else _local_fault(transfer, code))


def _status(line: bytes) -> int | None:
    """The status in an answer's first line."""
    words = line.split(None, 2)
    valid = line.startswith(b"HTTP/") and len(words) > 1 and len(words[1]) == 3 and words[1].isdigit()
    return int(words[1]) if valid else None


def _own_words(transfer: _Transfer) -> str | None:
    """Where it was we who ended it."""
    if transfer.refused:
        return f"the address {transfer.refused}"
    return f"the answer's headers have more than {ANSWER_LIMIT // 1024} KiB" if transfer.flooded else None


def _local_fault(transfer: _Transfer, code: int | None) -> str | None:
    number = transfer.curl.getinfo(pycurl.OS_ERRNO)
    if transfer.starved or code in _LOCAL_CODES or number in _NO_RESOURCES:
        return "resources"
    return "network" if code == pycurl.E_COULDNT_CONNECT and number in _NO_NETWORK and not transfer.refused else None


def _action(events: int) -> int:
    return (
        (pycurl.CSELECT_IN if events & (select.EPOLLIN | select.EPOLLHUP) else 0)
        | (pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0)
        | (pycurl.CSELECT_ERR if events & select.EPOLLERR else 0)
    )
