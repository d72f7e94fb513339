"""The two ends of the demonstration, as HTTP servers on 127.0.0.1: a status page and a customer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What a server answers."""

    status: int
    body: bytes = b""


class Received(NamedTuple):
    """A request as the customer got it, and what it was answered."""

    method: str
    target: str
    content_type: str | None
    webhook_id: str | None
    body: str
    answered: int


class StatusPage:
    """A page in Atlassian Statuspage's form. `statuses` are its components' words by their ids; change them at will."""

    def __init__(self, components: dict[str, str]) -> None:
        self._names = components
        self.statuses = dict.fromkeys(components, "operational")
        self.incident: str | None = None

    def open(self) -> AbstractContextManager[str]:
        """Serve it; gives its URL."""
        return _serving(lambda request, _body: self._reply(request.path))

    def _reply(self, path: str) -> Reply:
        if path != "/api/v2/summary.json":
            return Reply(404)
        return Reply(200, json.dumps(self._document()).encode())

    def _document(self) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        components = [{"id": key, "name": name, "status": self.statuses[key]} for key, name in self._names.items()]
        affected = [c for c in components if c["status"] != "operational"]
        incident = {"name": self.incident, "status": "investigating", "created_at": now, "components": affected}
        return {
            "page": {"id": "demo", "name": "A carrier's status page", "updated_at": now},
            "components": components,
            "incidents": [incident] if self.incident and affected else [],
            "scheduled_maintenances": [],
        }


class Customer:
    """A customer's server: takes callbacks, keeps what it got, and fails once where it is told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: list[Received] = []
        self._failing: set[str] = set()

    def open(self) -> AbstractContextManager[str]:
        """Serve it; gives its URL."""
        return _serving(self._reply)

    def fail_once(self, path: str) -> None:
        """Answer the next request to this path with 500."""
        with self._lock:
            self._failing.add(path)

    def take(self) -> list[Received]:
        """What came since the last call."""
        with self._lock:
            taken, self._received = self._received, []
        return taken

    def _reply(self, request: BaseHTTPRequestHandler, body: bytes) -> Reply:
        path = request.path.partition("?")[0]
        with self._lock:
            status = 500 if path in self._failing else 200
            self._failing.discard(path)
            self._received.append(
                Received(
                    request.command,
                    request.path,
                    request.headers["Content-Type"],
                    request.headers["webhook-id"],
                    body.decode("utf-8", "replace"),
                    status,
                )
            )
        return Reply(status)


@contextmanager
def _serving(reply: Callable[[BaseHTTPRequestHandler, bytes], Reply]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, answer = reply(self, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the play says what happened."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
