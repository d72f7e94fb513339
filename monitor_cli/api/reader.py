"""The API's way to the database: opened at the first request, lost and found again without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from monitor_cli.api.prompt import Prompt
from monitor_cli.db import Database
from monitor_cli.errors import DatabaseAway, MonitorError
from monitor_cli.store import listing

T = TypeVar("T")

TURNS = 2  # requests at the database at once: one computes while the other waits
TURN_SECONDS = 0.05  # how long a request waits for its turn
REST_SECONDS = 1.0  # after a failure nobody dials for so long: requests are refused at once and do not pile up

log = logging.getLogger(__name__)


class Resting(DatabaseAway):
    """Not dialled: a failure was a moment ago."""


class Reader:
    """Answers questions from the database; `open_database` gives one opened for serving.

    Every failure is a MonitorError. One kind of trouble is logged once, and once when it is over.
    """

    def __init__(self, open_database: Callable[[], Database], clock: Callable[[], float] = time.monotonic) -> None:
        self._open_database = open_database
        self._clock = clock
        self._lock = threading.RLock()
        self._turn = threading.Semaphore(TURNS)
        self._database: Database | None = None
        self._trouble: str | None = None
        self._rests_until = float("-inf")
        self._prompt = Prompt(clock)

    def of_key(self, digest: str, *, at_once: bool = False) -> listing.Listing | None:
        """`at_once`: for a thread that must not wait, always the same one. Raises NotNow then."""
        if at_once:
            return self._prompt.of_key(digest)
        found = self._ask(lambda database: database.query(lambda conn: listing.of_key(conn, digest)))
        self._open_prompt()
        return found

    def at_once(self) -> bool:
        """Whether `of_key` may be asked so now."""
        return self._prompt.at_hand()

    def account_of_key(self, digest: str) -> int | None:
        return self._ask(lambda database: database.query(lambda conn: listing.account_of_key(conn, digest)))

    def check(self) -> None:
        """Raise MonitorError unless a request could be answered now."""
        self.of_key("")

    def close(self) -> None:
        self._prompt.close()
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _ask(self, question: Callable[[Database], T]) -> T:
        # More at a time would fight for the interpreter's lock and all take longer (docs/serving.md); but nobody waits
        # behind a slow query for long.
        first = self._turn.acquire(timeout=TURN_SECONDS)
        try:
            self._refuse_while_resting()
            answer = question(self._database or self._open())
        except Resting:
            raise  # and the rest is not drawn out by it
        except MonitorError as error:
            self._lost(error)
            raise
        finally:
            if first:
                self._turn.release()
        if self._trouble is not None:
            self._found()
        return answer

    def _open_prompt(self) -> None:
        with self._lock, suppress(DatabaseAway):  # the next one who may wait hears of it
            if self._database is not None:
                self._prompt.open(self._database)

    def _refuse_while_resting(self) -> None:
        if self._clock() < self._rests_until:
            raise Resting(self._trouble or "the database did not answer a moment ago")

    def _open(self) -> Database:
        with self._lock:
            if self._database is None:
                self._refuse_while_resting()  # another request may have tried while this one waited for the lock
                database = self._open_database()
                try:
                    database.check_revision()
                except MonitorError as error:
                    database.close()
                    self._lost(error)
                    raise
                self._database = database
            return self._database

    def _lost(self, error: MonitorError) -> None:
        with self._lock:
            if error.message != self._trouble:
                facts = {"reason": error.message, **({"hint": error.hint} if error.hint else {})}
                log.warning("api.database_lost", extra={"facts": facts})
            self._trouble = error.message
            self._rests_until = self._clock() + REST_SECONDS

    def _found(self) -> None:
        with self._lock:
            if self._trouble is not None:
                log.warning("api.database_found", extra={"facts": {}})
            self._trouble = None
