"""One request on libcurl: what its answer has brought so far, and what came of it in the end."""

from __future__ import annotations

import errno
import re
import time
from collections import deque
from typing import Any, NamedTuple

import pycurl

from monitor_cli.outbound.faults import fault_words

ANSWER_LIMIT = 64 * 1024  # headers and body
MOST_LINES = ANSWER_LIMIT // 4  # "a:" and a line's end: no fewer bytes make a header
KEPT = 4096

# The kernel has no way out, or nothing left to give: no customer can be blamed.
_NO_NETWORK = {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LOCAL_CODES = {
    pycurl.E_OUT_OF_MEMORY,
    pycurl.E_FAILED_INIT,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_ENGINE_INITFAILED,
}

_STATUS = re.compile(rb"HTTP/\S*[ \t]+(\d{3})(?!\S)")
_MARKS = re.compile(rb"\n(?:retry-after:([^\n]*)|\r?\n)", re.IGNORECASE)  # and the blank line after an answer's headers


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


class Transfer:
    """An easy handle and what its answer has brought so far. Handles are used again, one request after the other.

    `ends` is the deadline of the request under way (monotonic); past it nothing of it is sent any more."""

    __slots__ = ("_body", "_size", "curl", "dialled", "ends", "flooded", "key", "lines", "overdue", "pinned", "refused",
                 "sendings", "started", "starved")  # fmt: skip

    def __init__(self, curl: pycurl.Curl) -> None:
        self.curl = curl
        # For each line its append is called: C, where a function of ours would cost three times as much. What is too
        # long is seen in the end; until then libcurl's limits, Sockets and this length bound it.
        self.lines: deque[bytes] = deque(maxlen=MOST_LINES)
        self.pinned = False  # its name's addresses were set by the last request
        curl.setopt(pycurl.HEADERFUNCTION, self.lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, self._take)
        curl.setopt(pycurl.PREREQFUNCTION, self._may_send)
        self.begin(None, 0.0)

    def begin(self, key: Any, ends: float) -> None:
        self.key = key
        self.ends = ends
        self.lines.clear()
        self._body = b""
        self._size = 0
        self.refused: str | None = None
        self.starved = False
        self.flooded = False
        self.overdue = False
        self.sendings = 0
        self.dialled = ""
        self.started = time.monotonic()

    def answer(self, code: int | None, words: str, now: float) -> Answer | None:
        """What came of it, libcurl having ended it with this code and these words (None and '' where it sees no
        fault). None: we were stopped until its deadline had passed, and nothing of it was sent."""
        duration = int((now - self.started) * 1000)
        head = b"".join(self.lines)
        if len(head) > ANSWER_LIMIT or len(self.lines) == MOST_LINES:
            self.flooded = True
            head = head[:ANSWER_LIMIT] if len(self.lines) < MOST_LINES else b""  # its beginning is gone
        status, retry_after = _final(head)
        if status is not None:  # the status line and headers decide, whatever the body did
            return Answer(status, None, self._body, retry_after, duration, True, None, head, self.sendings > 1)
        sent = self.curl.getinfo(pycurl.REQUEST_SIZE) > 0
        if self.overdue and not sent:
            return None
        number = self.curl.getinfo(pycurl.OS_ERRNO)
        code = pycurl.E_OPERATION_TIMEDOUT if self.overdue else code
        error = self._own_words() or fault_words(code, words, sent, now - self.started, self.dialled, number)
        return Answer(None, error, b"", None, duration, sent, None if sent else self._local_fault(code, number))

    def _may_send(self, _address: str, _from: str, _port: int, _from_port: int) -> int:
        """libcurl is about to send; a second time where a connection that was used before ended without an answer. A
        process that was stopped meanwhile must not send what its lease no longer allows."""
        if time.monotonic() >= self.ends:
            self.overdue = True
            return pycurl.PREREQFUNC_ABORT
        self.sendings += 1
        return pycurl.PREREQFUNC_OK

    def _take(self, data: bytes) -> int | None:
        """A piece of the body."""
        self._size += len(data)
        if len(self._body) < KEPT:
            self._body += data[: KEPT - len(self._body)]
            if len(self._body) == KEPT:  # only where it is long do the headers' bytes matter
                self._size += sum(map(len, self.lines))
        return -1 if self._size > ANSWER_LIMIT else None

    def _own_words(self) -> str | None:
        """Where it was we who ended it."""
        if self.refused:
            return f"the address {self.refused}"
        return f"the answer's headers have more than {ANSWER_LIMIT // 1024} KiB" if self.flooded else None

    def _local_fault(self, code: int | None, number: int) -> str | None:
        if self.starved or code in _LOCAL_CODES or number in _NO_RESOURCES:
            return "resources"
        return "network" if code == pycurl.E_COULDNT_CONNECT and number in _NO_NETWORK and not self.refused else None


def _final(head: bytes) -> tuple[int | None, str | None]:
    """The status of the final answer, once its headers are complete, and its Retry-After. What follows its blank line
    are trailers; a later line that looks like a status line is a header that forges one."""
    start, retry_after = 0, None
    for mark in _MARKS.finditer(head):
        if mark[1] is not None:
            retry_after = mark[1].decode("latin-1").strip()
            continue
        first = _STATUS.match(head, start)
        if first and (status := int(first[1])) >= 200:
            return status, retry_after
        start, retry_after = mark.end(), None
    return None, None
