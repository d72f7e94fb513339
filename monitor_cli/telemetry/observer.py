"""One run of a command as others' tools see it: a ping when it begins and ends, metrics when it has ended, and both
from time to time where it stays."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitor_cli.db import Connection, Database
from monitor_cli.errors import MonitorError

if TYPE_CHECKING:  # cron starts us each minute, mostly with neither a URL nor a textfile
    from prometheus_client import Metric

    from monitor_cli.telemetry.ping import Pinger

log = logging.getLogger(__name__)

FIRST_PULSE_SECONDS = 1.0
PULSE_SECONDS = 30.0
STILL_SECONDS = 60.0  # a loop that has not turned for so long hangs


@dataclass(frozen=True)
class Job:
    """A command that is observed: its name, what its metrics begin with, and the metrics of the database after it."""

    command: str
    prefix: str
    state: Callable[[Connection], Iterable[Metric]]

    @property
    def setting(self) -> str:
        """What the names of its settings begin with."""
        return self.command.replace("-", "_")


class Observer:
    """`url` and `textfile` may be ''. `did` gives the metrics of what the run did so far. `wall` is unix time, `clock`
    monotonic."""

    def __init__(
        self,
        job: Job,
        url: str,
        textfile: str,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._textfile, self._wall, self._clock = job, textfile, wall, clock
        self._began = clock()
        self._pinger = _pinger(url) if url else None
        self._pulse: threading.Thread | None = None
        self._ended = threading.Event()
        self.did: Callable[[], Iterable[Metric]] = lambda: ()

    def begin(self) -> None:
        """The run begins. Starts a thread where there is a URL: not before a fork."""
        if self._pinger:
            self._pinger.start()

    def forget(self) -> None:
        """It was no run: nothing is told of it."""
        self._pinger, self._textfile = None, ""

    def stay(self, database: Database, still_for: Callable[[], float], every_seconds: float = PULSE_SECONDS) -> None:
        """The run stays: from now on ping and write from time to time, as long as it works: its loop turns (it is told
        how long that was ago), and the database answers."""

        def beat() -> None:
            pause = min(FIRST_PULSE_SECONDS, every_seconds)
            while not self._ended.wait(pause):
                pause = every_seconds
                self._write(database, 0)
                if not self._ended.is_set():
                    self._ping(still_for() < STILL_SECONDS and _answers(database))

        if self._pinger or self._textfile:
            self._pulse = threading.Thread(target=beat, name="pulse", daemon=True)
            self._pulse.start()

    def end(self, exit_code: int, database: Database | None) -> None:
        """The run ended; `database` None: it cannot be asked. Takes a few seconds at most, and raises nothing."""
        self._ended.set()
        if self._pulse is not None:
            self._pulse.join(1)
        self._ping(exit_code == 0)
        self._write(database, exit_code)
        if self._pinger:
            self._pinger.close()

    def _ping(self, well: bool) -> None:
        if self._pinger and well:
            self._pinger.success()
        elif self._pinger:
            self._pinger.fail()

    def _write(self, database: Database | None, exit_code: int) -> None:
        if not self._textfile:
            return
        from monitor_cli.telemetry import metrics, textfile

        prefix, now = self._job.prefix, self._wall()
        known = f"{prefix}_last_success_timestamp_seconds"
        last = now if exit_code == 0 else textfile.last_value(self._textfile, known)
        ran = metrics.Ran(now, self._clock() - self._began, exit_code, last)
        families = [*metrics.run(prefix, self._job.command, ran), *self.did(), *self._state(database)]
        try:
            textfile.write(self._textfile, families)
        except OSError as error:
            facts = {"path": self._textfile, "reason": error.strerror or str(error)}
            log.warning("textfile.failed", extra={"facts": facts})

    def _state(self, database: Database | None) -> list[Metric]:
        """Nothing where the database does not answer: the run says that itself."""
        if database is None:
            return []
        try:
            with database.read() as conn:
                return list(self._job.state(conn))
        except MonitorError as error:
            log.info("textfile.incomplete", extra={"facts": {"path": self._textfile, "reason": error.message}})
            return []


def _answers(database: Database) -> bool:
    try:
        database.check_revision()
    except MonitorError:
        return False
    return True


def _pinger(url: str) -> Pinger:
    from monitor_cli.telemetry.ping import Pinger

    return Pinger(url)
