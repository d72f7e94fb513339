"""Listings at once: read by a thread that must not wait, on a connection of its own, as long as the database is quick.

Where the database is on this host, handing a request to another thread and back costs more than waiting beside it
(docs/serving.md has the figures): their work shares the cores anyway. One that is elsewhere, slow or away is asked by
threads that may wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from monitor_cli.apart import Apart
from monitor_cli.db import Database
from monitor_cli.errors import DatabaseAway
from monitor_cli.store import listing

PATIENCE_SECONDS = 0.05  # for one answer; a connection that keeps us waiting for longer is given up
QUICK_SECONDS = 0.005  # what answers take on the average, else it is for threads that may wait
REST_SECONDS = 1.0  # after that
_WEIGHT = 1 / 16  # of the newest answer in that average


class NotNow(Exception):
    """It would take too long, or nobody knows: ask where waiting does no harm."""


class Prompt:
    """A connection that `of_key` may use without waiting, once `open` has dialled it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._apart: Apart | None = None
        self._wanted = False
        self._average = 0.0
        self._rests_until = float("-inf")

    def at_hand(self) -> bool:
        """Whether it is open. Who asks wants it to be: the next `open` dials."""
        at_hand = self._apart is not None
        self._wanted = self._wanted or not at_hand
        return at_hand

    def of_key(self, digest: str) -> listing.Listing | None:
        """What listing.of_key says. From one thread only. Raises NotNow."""
        apart, began = self._apart, self._clock()
        if not self.at_hand() or apart is None:
            raise NotNow
        try:
            found = apart.query(lambda conn: listing.of_key(conn, digest))
        except DatabaseAway as error:  # the reason is found and told by who asks again
            self._rest()
            raise NotNow from error
        self._average += _WEIGHT * (self._clock() - began - self._average)
        if self._average > QUICK_SECONDS:
            self._rest()
        return found

    def open(self, database: Database) -> None:
        """Dial, where somebody asked for it. From threads that may wait, one at a time, when the database has just
        answered. Raises DatabaseAway."""
        if not self._wanted or self._clock() < self._rests_until or not database.is_mysql:
            return
        self._wanted = False
        apart = Apart(database, PATIENCE_SECONDS)
        if apart.near:
            self._average, self._apart = 0.0, apart
        else:
            apart.close()
            self._rests_until = float("inf")

    def close(self) -> None:
        apart, self._apart = self._apart, None
        if apart is not None:
            apart.close()

    def _rest(self) -> None:
        self._rests_until = self._clock() + REST_SECONDS
        self.close()
