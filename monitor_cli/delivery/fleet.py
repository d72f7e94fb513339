"""Several engines side by side, a process each: Python uses one core per process, and a platform's outage concerns
thousands of callbacks at once. They share nothing but the database; the protocol lets any number work together.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from monitor_cli.config import Settings
from monitor_cli.db import Database
from monitor_cli.delivery.desk import lease_in_force
from monitor_cli.delivery.engine import Engine, Reach
from monitor_cli.delivery.tally import Row, Tally
from monitor_cli.errors import ConfigError, InternalError, MonitorError, OutsideError
from monitor_cli.sealing import Keyring
from monitor_cli.store import sealed

log = logging.getLogger(__name__)

MOST = 4
SILENT_SECONDS = 10


class Ended(NamedTuple):
    """How a helper ended: its exit code, and whom it reached (engine.Reach)."""

    code: int
    anybody: bool = False
    fault: str | None = None


def size(settings: Settings) -> int:
    """How many processes a run has: as configured, or one for each core, at most 4; no more than slots."""
    return min(settings.processes or min(MOST, len(os.sched_getaffinity(0))), settings.concurrency)


def share(settings: Settings, count: int) -> Settings:
    """Each process's part of the slots, so that all of them together keep to the limits."""
    return replace(
        settings,
        concurrency=max(1, settings.concurrency // count),
        slow_lane=max(1, settings.slow_lane // count),
    )


class Fleet:
    """`start` forks the helpers; it has to come before any thread and any connection. Each runs `work(stop, number)`,
    where `stop` says that SIGTERM or SIGINT came or that the first process has died, and ends as it says."""

    def __init__(self) -> None:
        self._helpers: list[int] = []
        self._reports, self._report = os.pipe()
        self._stopped = False
        self._wake: Callable[[], None] = lambda: None

    def start(self, count: int, work: Callable[[Callable[[], bool], int], Ended]) -> None:
        """Fork `count` helpers, numbered from 1."""
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        for number in range(1, count + 1):
            if pid := os.fork():
                self._helpers.append(pid)
                continue
            self._helpers.clear()
            code = 1
            try:
                ended = work(lambda: self._stopped or os.getppid() != parent, number)
                os.write(self._report, json.dumps(ended).encode() + b"\n")
                code = ended.code
            finally:
                sys.stderr.flush()
                os._exit(code)

    def listen(self, wake: Callable[[], None]) -> None:
        """Take SIGTERM and SIGINT from now on; `wake` makes the loop ask `stopped`. Helpers are told too."""
        self._wake = wake
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())

    def stopped(self) -> bool:
        return self._stopped

    def wait(self) -> list[Ended]:
        """Wait for the helpers, and how they ended: what they reported, and the exit code or signal of who failed."""
        failed = []
        while self._helpers:
            _, status = os.waitpid(self._helpers.pop(), 0)
            if code := os.waitstatus_to_exitcode(status):
                failed.append(Ended(abs(code)))
        os.close(self._report)
        with open(self._reports, encoding="utf-8") as lines:
            return [*failed, *(Ended(*json.loads(line)) for line in lines)]

    def _stop(self) -> None:
        self._stopped = True
        for pid in self._helpers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._wake()


def run_fleet(
    database: Database,
    settings: Settings,
    max_seconds: float | None,
    begun: Callable[[Tally], None] = lambda _tally: None,
) -> None:
    """One run of callback-run: the first process speaks for all, and calls `begun` once the others are there, so that
    threads may start. Raises what its engine raises, and OutsideError where only a helper failed, or where none reached
    any customer for a fault of ours; ConfigError (78) where the keys do not fit the callbacks' secrets. `database` has
    no connection once there are helpers."""
    with database.read() as conn:
        sealed.check(conn, Keyring.of(settings))
    database.close()  # every process has connections of its own
    count = size(settings)
    mine = share(settings, count)
    # Well within a lease, so that others' records that wait for a stopped process's locks come in time.
    database.drop_when_silent(
        max(1, int(min(SILENT_SECONDS, lease_in_force(settings.lease_seconds, settings.total_timeout) / 4)))
    )
    gc.freeze()  # what is there by now stays, and stays shared with the helpers
    fleet = Fleet()
    fleet.listen(lambda: None)  # before there are helpers: a SIGTERM that comes early must not kill one half-way
    tally = Tally(count)
    fleet.start(
        count - 1,
        lambda stop, number: _help(fleet, database, mine, (count, number), max_seconds, stop, tally.row(number)),
    )
    begun(tally)
    engine = Engine(database, mine, processes=count, stop=fleet.stopped, tally=tally.row(0))
    fleet.listen(engine.wake)
    try:
        own = engine.run(max_seconds)
    finally:
        fleet.listen(lambda: None)  # there is nothing more to wake here; the helpers are still told
        engine.close()
        helpers = fleet.wait()
    _judge(own, helpers)


def _judge(own: Reach, helpers: Sequence[Ended]) -> None:
    """Raise what went wrong in a helper, or for all of them together; see run_fleet."""
    if any(helper.code == ConfigError.exit_code for helper in helpers):
        raise ConfigError(
            "the secrets of a callback cannot be read with secret_key",
            "see: monitor-cli callback encrypt-secrets --dry-run",
        )
    if worst := max((helper.code for helper in helpers), default=0):
        raise OutsideError(f"a helper process ended with exit code {worst}", "run it with -v, or with processes = 1")
    reach = [own, *(Reach(helper.anybody, helper.fault) for helper in helpers)]
    faults = [each.fault for each in reach if each.fault]
    if faults and not any(each.anybody for each in reach):
        raise OutsideError(f"no customer can be reached: {faults[0]}", "check this host's network and resolver")


def _help(
    fleet: Fleet,
    database: Database,
    settings: Settings,
    place: tuple[int, int],
    max_seconds: float | None,
    stop: Callable[[], bool],
    tally: Row,
) -> Ended:
    """One helper; its `place` is how many processes there are, and which of them it is."""
    count, number = place
    engine = Engine(database, settings, processes=count, number=number, stop=stop, tally=tally)
    fleet.listen(engine.wake)
    try:
        return Ended(0, *engine.run(max_seconds))
    except MonitorError as error:
        return Ended(error.exit_code)
    except Exception as error:
        log.error("helper.failed", extra={"facts": {"reason": InternalError(error).message}})
        log.debug("traceback", exc_info=error)
        return Ended(1)
    finally:
        fleet.listen(lambda: None)
        engine.close()
