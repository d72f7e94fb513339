"""Connections that can be cut from another thread, whatever they are waiting for."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import requests.adapters
import urllib3


class Connections:
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


class Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter whose pools tell about each connection."""

    def __init__(self, connections: Connections) -> None:
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


def _pools(connections: Connections) -> dict[str, Any]:
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
