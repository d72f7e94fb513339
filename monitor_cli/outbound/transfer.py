"""One request on libcurl: what its answer has brought so far, and what came of it in the end."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import pycurl

from monitor_cli.outbound.faults import fault_words

ANSWER_LIMIT = 64 * 1024  # headers and body
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

_BLANK = (b"\r\n", b"\n")


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
        self.lines: list[bytes] = []
        self.pinned = False  # its name's addresses were set by the last request
        curl.setopt(pycurl.HEADERFUNCTION, self._line)
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
        status, retry_after = _final(self.lines)
        if status is not None:  # the status line and headers decide, whatever the body did
            head, repeated = b"".join(self.lines), self.sendings > 1
            return Answer(status, None, self._body, retry_after, duration, True, None, head, repeated)
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

    def _line(self, line: bytes) -> int | None:
        """A line of the headers, or of trailers."""
        self._size += len(line)
        if self._size > ANSWER_LIMIT:
            self.flooded = True
            return -1
        self.lines.append(line)
        return None

    def _take(self, data: bytes) -> int | None:
        """A piece of the body."""
        self._size += len(data)
        if len(self._body) < KEPT:
            self._body = (self._body + data)[:KEPT]
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


def _final(lines: Iterable[bytes]) -> tuple[int | None, str | None]:
    """The status of the final answer, once its headers are complete, and its Retry-After. What follows the blank line
    is another answer after a 1xx, else trailers."""
    status, retry_after, first = None, None, True
    for line in lines:
        if first:  # a later line that looks like a status line is a header that forges one
            status, retry_after, first = _status(line[:16]), None, False
        elif line in _BLANK:
            if status is not None and status >= 200:
                return status, retry_after
            first = True
        elif line[11:12] == b":" and line[:11].lower() == b"retry-after":
            retry_after = line[12:].decode("latin-1").strip()
    return None, None


@lru_cache(maxsize=64)
def _status(line: bytes) -> int | None:
    """The status in an answer's first line, of which this is the beginning: libcurl lets no more than one blank be
    before it."""
    words = line.split(None, 2)
    valid = line.startswith(b"HTTP/") and len(words) > 1 and len(words[1]) == 3 and words[1].isdigit()
    return int(words[1]) if valid else None
