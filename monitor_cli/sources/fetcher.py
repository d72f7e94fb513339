"""Getting a source's documents over HTTP, within one deadline."""

from __future__ import annotations

import http.client
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import requests
import requests.utils
import urllib3

from monitor_cli import __version__
from monitor_cli.config import Source
from monitor_cli.errors import SourceError
from monitor_cli.providers.shape import NotThere
from monitor_cli.sources.addresses import origin_of, redirected, shown
from monitor_cli.sources.causes import cause_of
from monitor_cli.sources.connections import Adapter, Connections
from monitor_cli.sources.decoding import decode, inflated, pieces_of
from monitor_cli.sources.memory import NoShelf, Remembered, Shelf, Validator, hashed, unpacked

LIMIT = 32 * 2**20  # bytes of a document, decoded
MAX_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
_ABSENT = {400, 404, 405, 406, 410}  # what servers say of an address that they do not know; it may be another product's
_NOT_MODIFIED = 304
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
_HEADERS = {
    "User-Agent": f"monitor-cli/{__version__}",
    "Accept": "application/json, */*;q=0.5",
    "Accept-Encoding": "gzip",
}


class _Answer(NamedTuple):
    """A server's answer: where it came from, its headers, and the document (None: it is as it was)."""

    url: str
    headers: Mapping[str, str]
    body: bytes | None


def _refusal(response: requests.Response) -> str:
    """What a server said instead of a document, and how long it asks to wait."""
    reason, wait = (response.reason or "")[:60].strip(), response.headers.get("retry-after", "")[:10]
    words = f"answered HTTP {response.status_code} {reason}".rstrip()
    return f"{words}, asks to wait {wait} s" if wait.isascii() and wait.isdecimal() else words


class Fetcher:
    """Gets one source's documents within its timeout. A context manager; `address` is the latest one asked for, `read`
    those that gave a document, `remembered` what is to be kept of them beside what is on the `shelf`."""

    def __init__(
        self,
        source: Source,
        shelf: Shelf = NoShelf(),  # noqa: B008 - it has no state
        *,
        limit: int = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._shelf = shelf
        self._limit = limit
        self._clock = clock
        self._end = clock() + source.timeout
        self._connections = Connections()
        self._session = requests.Session()
        self._session.trust_env = False  # no ~/.netrc; proxies and CA files are taken from the environment below
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Adapter(self._connections))
        self.address = shown(source.url)
        self.read: list[str] = []
        self.remembered = Remembered()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.cut()
        self._session.close()

    def get(self, url: str) -> Any:
        """The data in the document at a URL. Raises NotThere, SourceError."""
        self.address = shown(url)
        document = decode(self.fetch(url), self.address)
        self.read.append(self.address)
        return document

    def fetch(self, url: str) -> bytes:
        """The bytes at a URL, decoded; those on the shelf where the server says that they are still the same. Raises
        NotThere, SourceError."""
        answer = self._within(url, self._shelf.validator(hashed(url)))
        if answer.body is None:
            if (kept := unpacked(self._shelf.packed(hashed(url)), self._limit)) is not None:
                self.remembered.same.add(hashed(url))
                return kept
            answer = self._within(url, None)
        body = answer.body or b""
        self.remembered.take(url, answer.url, answer.headers, body)
        return body

    def _within(self, url: str, known: Validator | None) -> _Answer:
        """Ask within the deadline.

        A thread of its own asks, so that the deadline holds over what cannot be interrupted (a name server that does
        not answer) and over what never pauses long enough for a socket's timeout (headers byte by byte)."""
        done: queue.SimpleQueue[_Answer | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                done.put(self._follow(url, known))
            except BaseException as error:
                done.put(error)

        threading.Thread(target=work, name="source", daemon=True).start()
        try:
            outcome = done.get(timeout=max(0.0, self._left()))
        except queue.Empty:
            self._connections.cut()
            outcome = self._too_slow(url)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _left(self) -> float:
        return self._end - self._clock()

    def _too_slow(self, url: str) -> SourceError:
        return SourceError(f"{shown(url)}: not read within {self._source.timeout:g} s")

    def _follow(self, url: str, known: Validator | None) -> _Answer:
        """Ask, and go where redirects lead."""
        asked, headers = url, {**_HEADERS, **self._source.headers}
        for _ in range(MAX_REDIRECTS + 1):
            condition = known.headers() if known and known.found_at == hashed(url) else {}
            try:
                with self._ask(url, {**headers, **condition}) as response:
                    if condition and response.status_code == _NOT_MODIFIED:
                        return _Answer(url, response.headers, None)
                    if response.status_code not in _REDIRECTS or "location" not in response.headers:
                        return _Answer(url, response.headers, self._body(response, url))
                    target = redirected(url, response.headers["location"])
                if origin_of(url) != origin_of(target):
                    headers = _HEADERS  # the source's own may hold a key, which is not for others
            except _FAILURES as error:
                raise self._failed(url, error) from error
            url = target
        raise SourceError(f"{shown(asked)}: more than {MAX_REDIRECTS} redirects, the last one to {shown(url)}")

    def _ask(self, url: str, headers: dict[str, str]) -> requests.Response:
        left = self._left()
        if left <= 0:
            raise self._too_slow(url)
        request = self._session.prepare_request(requests.Request("GET", url, headers=headers))
        # The adapter itself: the session would look at the redirect, and fail on one that is no URL.
        return self._session.get_adapter(url).send(
            request,
            stream=True,
            timeout=(left, left),
            proxies=requests.utils.get_environ_proxies(url),
            verify=os.environ.get("REQUESTS_CA_BUNDLE") or True,
        )

    def _body(self, response: requests.Response, url: str) -> bytes:
        if response.status_code not in (200, 203):
            kind = NotThere if response.status_code in _ABSENT else SourceError
            raise kind(f"{shown(url)}: {_refusal(response)}")
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise SourceError(f"{shown(url)}: answered with Content-Encoding {encoding!r}, which was not asked for")
        promised = response.headers.get("content-length", "")
        if promised.isdecimal() and int(promised[:20]) > self._limit:
            raise self._too_large(url)
        pieces = pieces_of(response)
        body = bytearray()
        for piece in inflated(pieces) if encoding.endswith("gzip") else pieces:
            body += piece
            if len(body) > self._limit:
                raise self._too_large(url)
        return bytes(body)

    def _too_large(self, url: str) -> SourceError:
        return SourceError(f"{shown(url)}: the document is larger than {self._limit // 2**20} MiB")

    def _failed(self, url: str, error: Exception) -> SourceError:
        if isinstance(error, requests.Timeout) or self._left() <= 0:
            return self._too_slow(url)
        return SourceError(f"{shown(url)}: {cause_of(error)}")
