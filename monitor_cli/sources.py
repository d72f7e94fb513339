"""Reading a source: its documents over HTTP (or from files), then its provider's components.

What comes from a source is bounded: `timeout` seconds in total over everything that reading it needs (names, TLS,
headers, bodies, redirects, several documents), also where it drips byte by byte; 32 MiB a document after decoding;
three redirects, never from https to http. Whatever goes wrong is one SourceError that says where and why.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import requests.adapters
import requests.utils
import urllib3

from monitor_cli import __version__
from monitor_cli.config import Source
from monitor_cli.errors import SourceError
from monitor_cli.providers import read_documents, read_page, xmlform
from monitor_cli.providers.shape import NotThere, ShapeError
from monitor_cli.types import Component

LIMIT = 32 * 2**20  # bytes of a document, decoded
MAX_REDIRECTS = 3
_CHUNK = 64 * 1024
_REDIRECTS = {301, 302, 303, 307, 308}
_ABSENT = {400, 404, 405, 406, 410}  # what servers say of an address that they do not know; it may be another product's
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
_HEADERS = {
    "User-Agent": f"monitor-cli/{__version__}",
    "Accept": "application/json, */*;q=0.5",
    "Accept-Encoding": "gzip",
}


class File(NamedTuple):
    """A document that somebody has already: its name for people, and its bytes."""

    name: str
    body: bytes


class Reading(NamedTuple):
    """What reading a source gave: whose product it is, the addresses (or files) of the documents, the components."""

    provider: str
    documents: list[str]
    components: list[Component]


def read(source: Source, files: Sequence[File] = ()) -> list[Component]:
    """The components of a source: read over HTTP, or from `files` where they are given. Raises SourceError."""
    return examine(source, files).components


def examine(source: Source, files: Sequence[File] = ()) -> Reading:
    """The same, with how it was read. Raises SourceError."""
    if files:
        documents = [decode(file.body, file.name) for file in files]
        with _placed(lambda: files[0].name):
            provider, components = read_documents(source.provider, documents)
        return Reading(provider, [file.name for file in files], components)
    if not is_url(source.url):
        raise SourceError(f"{shown(source.url)} is not a URL that can be fetched")
    with Fetcher(source) as fetcher, _placed(lambda: fetcher.address):
        provider, components = read_page(source.provider, source.url, fetcher.get)
        return Reading(provider, fetcher.read, components)


class _placed:
    """Adds to a ShapeError where its document came from."""

    def __init__(self, where: Callable[[], str]) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ShapeError):
            where = shown(error.address) if error.address else self._where()
            raise SourceError(f"{where}: {error.message}") from None


def decode(body: bytes, where: str) -> Any:
    """The data in a document: JSON, or our own API's XML. Raises SourceError (NotThere for a page of HTML)."""
    start = body[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise SourceError(f"{where}: the document is empty")
    if start.startswith(b"<"):
        if xmlform.is_data(start):
            with _placed(lambda: where):
                return xmlform.to_data(body)
        raise NotThere(f"{where}: the answer is {'XML' if start.startswith(b'<?xml') else 'HTML'}, not JSON")
    try:
        return json.loads(body)
    except RecursionError:
        raise SourceError(f"{where}: the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise SourceError(f"{where}: the answer is not JSON, or not all of it ({error})") from None
    except ValueError as error:  # not the encoding that its first bytes promise; a number of thousands of digits
        raise SourceError(f"{where}: the answer is not JSON that can be read ({_first_line(error)})") from None


def is_url(url: str) -> bool:
    """Whether this is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def shown(url: str) -> str:
    """A URL for people: no password, and no query (keys stand there)."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
    except ValueError:
        return "the URL"


# --- over HTTP --------------------------------------------------------------------------------------------------------


class Fetcher:
    """Gets one source's documents within its timeout. A context manager; `address` is the latest one asked for, `read`
    those that gave a document."""

    def __init__(self, source: Source, *, limit: int = LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._limit = limit
        self._clock = clock
        self._end = clock() + source.timeout
        self._connections = _Connections()
        self._session = requests.Session()
        self._session.trust_env = False  # no ~/.netrc; proxies and CA files are taken from the environment below
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self._connections))
        self.address = shown(source.url)
        self.read: list[str] = []

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.cut()
        self._session.close()

    def get(self, url: str) -> Any:
        """The JSON document at a URL. Raises NotThere, SourceError."""
        self.address = shown(url)
        document = decode(self.fetch(url), self.address)
        self.read.append(self.address)
        return document

    def fetch(self, url: str) -> bytes:
        """The bytes at a URL, decoded. Raises NotThere, SourceError.

        A thread of its own asks, so that the deadline holds over what cannot be interrupted (a name server that does
        not answer) and over what never pauses long enough for a socket's timeout (headers byte by byte)."""
        done: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                done.put(self._follow(url))
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

    def _follow(self, url: str) -> bytes:
        """Ask, and go where redirects lead."""
        asked, headers = url, {**_HEADERS, **self._source.headers}
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with self._ask(url, headers) as response:
                    if response.status_code not in _REDIRECTS or "location" not in response.headers:
                        return self._body(response, url)
                    target = _redirected(url, response.headers["location"])
                if _origin(url) != _origin(target):
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
            raise kind(f"{shown(url)}: answered HTTP {response.status_code} {response.reason or ''}".rstrip())
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise SourceError(f"{shown(url)}: answered with Content-Encoding {encoding!r}, which was not asked for")
        pieces = _pieces(response)
        body = bytearray()
        for piece in _inflated(pieces) if encoding.endswith("gzip") else pieces:
            body += piece
            if len(body) > self._limit:
                raise SourceError(f"{shown(url)}: the document is larger than {self._limit // 2**20} MiB")
        return bytes(body)

    def _failed(self, url: str, error: Exception) -> SourceError:
        if isinstance(error, requests.Timeout) or self._left() <= 0:
            return self._too_slow(url)
        return SourceError(f"{shown(url)}: {_cause(error)}")


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises SourceError where it may not be followed."""
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    if not is_url(target):
        raise SourceError(f"{shown(url)}: redirects to something that is no http or https URL")
    if urlsplit(target).scheme == "http" and urlsplit(url).scheme == "https":
        raise SourceError(f"{shown(url)}: redirects from https down to {shown(target)}")
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes over the wire. Raises ValueError where the promised length does not come."""
    promised = response.headers.get("content-length", "")
    chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
    came = 0
    for piece in response.raw.stream(_CHUNK, decode_content=False):
        came += len(piece)
        yield piece
    if promised.isdecimal() and not chunked and came < int(promised):
        raise _EndedEarly


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The gzip stream's content in pieces of bounded size, however small what they are made of."""
    inflater = zlib.decompressobj(31)
    for piece in pieces:
        rest = piece
        while rest:
            try:
                out = inflater.decompress(rest, _CHUNK)
            except zlib.error:
                raise _BrokenGzip from None
            if out:
                yield out
            rest = inflater.unconsumed_tail
            if inflater.eof:
                rest = inflater.unused_data
                if rest:  # RFC 1952, 2.2: a file is a series of members
                    inflater = zlib.decompressobj(31)
    if not inflater.eof:
        raise _EndedEarly


class _EndedEarly(ValueError):
    pass


class _BrokenGzip(ValueError):
    pass


# --- why it failed ----------------------------------------------------------------------------------------------------


def _cause(error: BaseException) -> str:
    """The root of an exception of requests in a few words, without the URL that its own words repeat."""
    chain = list(_chain(error))
    for found in chain:
        if isinstance(found, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {found.verify_message}"
        if isinstance(found, ssl.SSLError):
            return f"TLS failed: {found.reason or 'the connection broke'}"
        if isinstance(found, socket.gaierror):
            return "its name does not resolve"
        if isinstance(found, _BrokenGzip):
            return "the answer is not the gzip that it says"
        if isinstance(found, _EndedEarly | http.client.IncompleteRead):
            return "the answer ended early"
        if isinstance(found, http.client.RemoteDisconnected):
            return "the connection was closed without an answer"
    for found in chain:
        if isinstance(found, OSError) and found.strerror and found.errno:
            return f"cannot be reached: {found.strerror}"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return "is not a URL that can be fetched"
    return f"gave no proper HTTP answer ({type(chain[-1]).__name__})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was made of, outermost first."""
    todo, seen = [error], set()
    while todo:
        found = todo.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        todo += [one for one in inner if isinstance(one, BaseException)]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


# --- connections that can be cut --------------------------------------------------------------------------------------


class _Connections:
    """The connections that were opened, so that another thread can end them, TLS or not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._cut = False

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            # A duplicate: wrapping in TLS detaches the original, and this one ends the same connection.
            self._sockets.append(connection.dup())
            late = self._cut
        if late:
            self.cut()

    def cut(self) -> None:
        """End all, and any that is opened later."""
        with self._lock:
            self._cut = True
            sockets, self._sockets = self._sockets, []
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter whose pools tell about each connection."""

    def __init__(self, connections: _Connections) -> None:
        self._pools = _pools(connections)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        if type(manager) is urllib3.ProxyManager:  # SOCKS has pools of its own
            manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(connections: _Connections) -> dict[str, Any]:
    class Plain(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            connections.add(connection)
            return connection

    class Tls(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            connections.add(connection)
            return connection

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
