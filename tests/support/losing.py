"""A way to a MariaDB server on which the answer to a COMMIT is lost: the server has done it, its client cannot know."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from typing import cast

from monitor_cli.db import Database


class LosingProxy(socketserver.ThreadingTCPServer):
    """Leads to `port`. On each of the first `losses` connections over which a statement with `after` goes, the answer
    to the next COMMIT does not arrive, and the connection ends."""

    daemon_threads = True

    def __init__(self, port: int, after: bytes, losses: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.to = port
        self.after = after
        self.left = losses

    def url(self, database: Database) -> str:
        """The way to this database on that server."""
        port = int(self.server_address[1])
        return database.url.set(port=port).render_as_string(hide_password=False)

    def __enter__(self) -> LosingProxy:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Relay(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy = cast(LosingProxy, self.server)
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
