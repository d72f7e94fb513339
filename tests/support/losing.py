"""A way to a MariaDB server on which the answer to a COMMIT is lost: the server has done it, its client cannot know."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from types import TracebackType
from typing import cast

from monitor_cli.db import Database


class LosingProxy:
    """Leads to `port`. On each of the first `losses` connections over which a statement with `after` goes, the answer
    to the next COMMIT does not arrive, and the connection ends."""

    def __init__(self, port: int, after: bytes, losses: int = 1) -> None:
        self.to = port
        self.after = after
        self.left = losses
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Relay, bind_and_activate=True)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]

    def url(self, database: Database) -> str:
        """The way to this database on that server."""
        port = int(self._server.server_address[1])
        return database.url.set(port=port).render_as_string(hide_password=False)

    def __enter__(self) -> LosingProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Relay(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy = cast(LosingProxy, self.server.proxy)  # type: ignore[attr-defined]
        client, said = cast(socket.socket, self.request), b""
        with socket.create_connection(("127.0.0.1", proxy.to)) as server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
                    said += data if source is client else b""
                if proxy.left and proxy.after in said and said.endswith(b"COMMIT"):
                    proxy.left -= 1
                    server.recv(65536)  # it is done
                    return
