"""HTTP servers on 127.0.0.1 that do what customers and status pages do, the bad ones included.

    with Receiver() as customer:
        customer.answer("/hook", Answer(500), Answer(200))     # the first request, then all others
        … customer.url("/hook") …
        customer.wait(2)[1].body

They speak HTTP/1.1 with keep-alive, a thread per connection; requests are recorded as they came over the wire.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

Headers = Iterable[tuple[str, str]]
_REASONS = {int(status): status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Request:
    """One request as it came: `target` and header names untouched; `at` is time.monotonic(), `time` time.time()."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float
    time: float
    connection: int  # numbered as the server accepted them

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode(), keep_blank_values=True)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The value of a header, None where it is not there; raises where it came twice."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None


@dataclass(frozen=True)
class Answer:
    """What a server does with a request. Seconds for `delay` (before the answer) and `drip` (between single bytes)."""

    status: int = 200
    body: bytes = b""
    headers: Headers = ()
    delay: float = 0.0
    wait: threading.Event | None = None  # answer only once this is set
    drop: Literal["before", "after"] | None = None  # reset the connection: before reading the body, after all
    drip: float = 0.0
    drip_body_only: bool = False
    truncate: int | None = None  # send only this much of the body that Content-Length promises, then close
    chunked: bool = False
    close: bool = False  # close the connection after it (Connection: close)
    raw: bytes | None = None  # these very bytes instead of all of it, then close
    also: dict[str, str] = field(default_factory=dict)  # headers that replace Content-Type, Content-Length …

    def wire(self, head: bool) -> tuple[bytes, bytes]:
        """The bytes of the head and of the body."""
        if self.raw is not None:
            return self.raw, b""
        headers: dict[str, str] = {}
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif self.status not in (204, 304):
            headers["Content-Length"] = str(len(self.body))
        if self.close or self.truncate is not None:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in {**headers, **self.also}.items()]
        lines += [f"{name}: {value}" for name, value in self.headers]
        body = b"" if head or self.status in (204, 304) else self.body[: self.truncate]
        if self.chunked and body:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if self.truncate is None else b"ffff\r\n" + body
        elif self.chunked and not head:
            body = b"0\r\n\r\n"
        return "\r\n".join([*lines, "", ""]).encode("utf-8"), body

    @property
    def closes(self) -> bool:
        return self.close or self.truncate is not None or self.raw is not None


class Server:
    """The server under both: accepts on 127.0.0.1, records, answers with what `respond` says."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self._tls = tls
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._accepted = 0
        self._running: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.peak: Counter[str] = Counter()  # path → the most requests in flight at one time
        self.hang_up = False  # reset every connection as soon as it is accepted
        self.host = host
        self._stopped = threading.Event()
        self._listener = socket.create_server((host, port), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name=f"http-{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what tests ask -------------------------------------------------------------------------------------------

    def url(self, path: str = "/", host: str | None = None) -> str:
        """The address of a path here; `host`: under another name."""
        return f"http{'s' if self._tls else ''}://{host or self.host}:{self.port}{path}"

    def respond(self, request: Request) -> Answer:
        raise NotImplementedError

    def to(self, path: str) -> list[Request]:
        """The recorded requests to a path, in order."""
        with self._changed:
            return [request for request in self.requests if request.path == path]

    def wait(self, count: int, path: str | None = None, timeout: float = 20) -> list[Request]:
        """The requests (to `path`) once there are at least `count` of them; fails after `timeout` seconds."""

        def found() -> list[Request]:
            return [request for request in self.requests if path is None or request.path == path]

        with self._changed:
            came = self._changed.wait_for(lambda: len(found()) >= count, timeout)
            lines = [f"{request.method} {request.target[:80]}" for request in self.requests]
            assert came, f"{len(found())} of {count} requests came in {timeout} s: {lines[:20]}"
            return found()

    def clear(self) -> None:
        """Forget what was recorded."""
        with self._changed:
            self.requests.clear()
            self.peak.clear()

    def stop(self) -> None:
        """Close the port and every connection: from now on connections are refused."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    # --- how ------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.hang_up:
                _reset(connection)
                continue
            self._accepted += 1
            threading.Thread(target=self._serve, args=(connection, self._accepted), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with self._changed:
            self._connections.add(connection)
        plain = connection
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection.makefile("rb") as stream:
                while self._one(connection, stream, number):
                    pass
        except (OSError, ValueError):
            pass  # the other side went away, as they do
        finally:
            with self._changed:
                self._connections.discard(plain)
            with suppress(OSError):
                connection.close()

    def _one(self, connection: socket.socket, stream: BufferedReader, number: int) -> bool:
        if stream.peek(1)[:1] == b"\x16":  # the first byte of TLS, which may bring no line end to wait for
            return False
        first = stream.readline(1 << 20)
        if not first.strip():
            return False
        method, target, version = first.decode("latin-1").split()
        headers = []
        while (line := stream.readline(1 << 20)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        request = Request(method, target, version, headers, b"", time.monotonic(), time.time(), number)
        path = request.path
        with self._changed:
            self._running[path] += 1
            self.peak[path] = max(self.peak[path], self._running[path])
        try:
            answer = self._read_and_record(request, stream)
            if answer.wait is not None:
                while not answer.wait.wait(0.2) and not self._stopped.is_set():
                    pass
            if answer.delay:
                self._stopped.wait(answer.delay)
        finally:
            # Before the answer: its reader may send the next request before this thread runs again.
            with self._changed:
                self._running[path] -= 1
        if answer.drop:
            _reset(connection)
            return False
        self._send(connection, answer, method == "HEAD")
        wants_close = any(name.lower() == "connection" and value.lower() == "close" for name, value in headers)
        return not (answer.closes or wants_close or version == "HTTP/1.0")

    def _read_and_record(self, request: Request, stream: BufferedReader) -> Answer:
        answer = self._peek(request)
        if answer is None or answer.drop != "before":
            body = _body(request, stream)
            request = Request(
                request.method, request.target, request.version, request.headers, body,
                time.monotonic(), time.time(), request.connection,
            )  # fmt: skip
        answer = answer or self.respond(request)
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return answer

    def _peek(self, request: Request) -> Answer | None:
        """The answer where it is known before the body was read."""
        return None

    def _send(self, connection: socket.socket, answer: Answer, head: bool) -> None:
        start, body = answer.wire(head)
        if not answer.drip:
            connection.sendall(start + body)
            return
        if answer.drip_body_only:
            connection.sendall(start)
            start = b""
        for byte in start + body:
            connection.sendall(bytes([byte]))
            if self._stopped.wait(answer.drip):
                return


class Receiver(Server):
    """A customer: takes callbacks. Answers 200 with nothing, unless `answer` says otherwise."""

    def __init__(self, **options: Any) -> None:
        self._scripts: dict[str | None, list[Answer]] = {}
        self._hook: Callable[[Request], Answer | None] | None = None
        super().__init__(**options)

    def answer(self, path: str | None, *answers: Answer | int) -> None:
        """Script a path (None: every path without a script): each request takes the next answer, the last one stays."""
        with self._changed:
            self._scripts[path] = [Answer(item) if isinstance(item, int) else item for item in answers]

    def decide(self, hook: Callable[[Request], Answer | None] | None) -> None:
        """Let a function answer (None from it: as scripted). It runs in the connection's thread."""
        self._hook = hook

    def _peek(self, request: Request) -> Answer | None:
        if self._hook is not None:
            return None
        return self._next(request)

    def respond(self, request: Request) -> Answer:
        decided = self._hook(request) if self._hook is not None else None
        return decided or self._next(request)

    def _next(self, request: Request) -> Answer:
        with self._changed:
            script = self._scripts.get(request.path) or self._scripts.get(None) or [Answer()]
            return script.pop(0) if len(script) > 1 else script[0]


class StatusPage(Server):
    """A status page: serves documents at paths, 404 elsewhere."""

    def __init__(self, **options: Any) -> None:
        self._documents: dict[str, tuple[Answer, bool]] = {}
        super().__init__(**options)

    def serve(
        self,
        path: str,
        document: bytes | str | dict[str, Any] | list[Any] | Path = b"",
        status: int = 200,
        *,
        content_type: str = "application/json; charset=utf-8",
        etag: bool = False,
        headers: Headers = (),
        **how: Any,
    ) -> str:
        """Serve a document (bytes, text, data as JSON, or a file's bytes) at a path or exact target with its query;
        `how` are fields of Answer (delay, drip, truncate, drop …). With `etag` it has one, and answers 304 to it.
        Gives the URL."""
        if isinstance(document, Path):
            body = document.read_bytes()
        elif isinstance(document, str | bytes):
            body = document.encode() if isinstance(document, str) else document
        else:
            body = json.dumps(document).encode()
        fixed = [("Content-Type", content_type)] if content_type else []
        if etag:
            fixed.append(("ETag", f'"{hashlib.sha256(body).hexdigest()[:16]}"'))
        with self._changed:
            self._documents[path] = (Answer(status, body, [*fixed, *headers], **how), etag)
        return self.url(path)

    def remove(self, path: str) -> None:
        with self._changed:
            self._documents.pop(path, None)

    def respond(self, request: Request) -> Answer:
        with self._changed:
            found = self._documents.get(request.target) or self._documents.get(request.path)
        if found is None:
            return Answer(404, b"<html><body>Not Found</body></html>", [("Content-Type", "text/html")])
        answer, etag = found
        if etag and request.header("If-None-Match") == dict(answer.headers)["ETag"]:
            return Answer(304, headers=[("ETag", dict(answer.headers)["ETag"])])
        return answer


def _body(request: Request, stream: BufferedReader) -> bytes:
    if (request.header("Transfer-Encoding") or "").lower() == "chunked":
        parts = []
        while size := int(stream.readline().split(b";")[0], 16):
            parts.append(stream.read(size))
            stream.readline()
        stream.readline()
        return b"".join(parts)
    return stream.read(int(request.header("Content-Length") or 0))


def _reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A duplicate may be held by makefile(): shut our side first, so that the other sees it at once.
        connection.close()


@contextmanager
def wire(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of raw bytes: `serve` gets each connection, once the first request's head has come. Gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (some := connection.recv(65536)):
                    return
                head += some
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
