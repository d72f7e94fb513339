"""One archive run at a time on a database, restoring included: a lease, renewed as the work goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from monitor_cli.db import Connection, Database
from monitor_cli.errors import MonitorError
from monitor_cli.store import leases

NAME = "archive"
LENGTH_MS = 60_000
_RENEW_SECONDS = 10.0


class Busy(MonitorError):
    """Another run is at work, or has taken over."""


class Lease:
    """The lease of a run. Whoever wakes up after another took over gets no further: each deletion holds it."""

    def __init__(self, database: Database, token: str, clock: Callable[[], float]) -> None:
        self._database = database
        self._token = token
        self._clock = clock
        self._renewed = clock()

    def hold(self, conn: Connection) -> None:
        """Renew it, in a transaction that writes: nobody can take it before that ends. Raises Busy."""
        if not leases.renew(conn, NAME, self._token, LENGTH_MS):
            raise Busy("another archive run has taken over")
        self._renewed = self._clock()

    def keep(self) -> None:
        """Renew it where it is time to. Raises Busy."""
        if self._clock() - self._renewed > _RENEW_SECONDS:
            self._database.transact(self.hold)


@contextmanager
def held(database: Database, clock: Callable[[], float] = time.monotonic) -> Iterator[Lease]:
    """The lease for as long as the block runs. Raises Busy where another run has it."""
    with database.read() as conn:
        if leases.is_held(conn, NAME):
            raise Busy("another archive run is at work")
    token = database.transact(lambda conn: leases.take(conn, NAME, leases.holder(), LENGTH_MS))
    if token is None:
        raise Busy("another archive run is at work")
    try:
        yield Lease(database, token, clock)
    finally:
        with suppress(Exception):
            database.transact(lambda conn: leases.release(conn, NAME, token))
