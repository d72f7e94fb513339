"""One connection of its own for a thread that must not wait long: the server is given up where it sends nothing for a
while, and whether it is on this host is known. For MySQL and MariaDB."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, exc

from monitor_cli.db import Database
from monitor_cli.errors import DatabaseAway

T = TypeVar("T")


class Apart:
    """Dials anew, past the pool of a database that was opened with `serving`; `seconds` bounds every wait for the
    server after that. Every failure is a DatabaseAway, and the connection is to be closed then."""

    def __init__(self, database: Database, seconds: float) -> None:
        with _translated():
            self._connection = database.engine.connect()
            self._connection.detach()
        driver: Any = self._connection.connection.dbapi_connection
        driver._read_timeout = driver._write_timeout = seconds
        self._socket = driver._sock

    @property
    def near(self) -> bool:
        """Whether the server is on this host."""
        return is_near(self._socket)

    def query(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, in autocommit."""
        with _translated():
            return work(self._connection)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exc.SQLAlchemyError as error:
        raise DatabaseAway("the database did not answer at once") from error


def is_near(connected: Any) -> bool:
    """Whether a connected socket's other end is on this host."""
    return connected.family == socket.AF_UNIX or ipaddress.ip_address(connected.getpeername()[0]).is_loopback
