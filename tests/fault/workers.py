"""The workers of a fault run: processes of the installed monitor-cli that are killed, stopped and started again.

A worker of several processes (processes = 2) is shot at process by process.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from monitor_cli import config
from tests.support.cli import SCRIPT

SITE = Path(__file__).resolve().parent / "site"
_PR_SET_PDEATHSIG = 1


def address_of(pid: int) -> str:
    """Where a process's requests come from (site/sitecustomize.py)."""
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


def environment(directory: Path) -> dict[str, str]:
    """What a process of monitor-cli needs, and nothing of this machine's settings."""
    env = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    if config.SYSTEM_FILE.exists():
        (directory / "empty.toml").touch()
        env["MONITOR_CONFIG"] = str(directory / "empty.toml")
    return env


@dataclass
class Life:
    """One process, from start to end (unix time). `killed` is set by SIGKILL alone; `stops` are the spans from SIGSTOP
    to SIGCONT or to its death. A helper has no `code`: its first process speaks for it. `place` names its database."""

    pid: int
    started: float
    helper: bool = False
    place: str = ""
    killed: float | None = None
    ended: float | None = None
    code: int | None = None
    stops: list[tuple[float, float]] = field(default_factory=list)
    stopped_at: float | None = None
    continue_at: float = 0.0

    @property
    def running(self) -> bool:
        """It is there, and not stopped."""
        return self.ended is None and self.stopped_at is None

    def stop(self, seconds: float) -> None:
        """SIGSTOP, to be continued after so long."""
        self.stopped_at = time.time()
        self._signal(signal.SIGSTOP)
        self.continue_at = self.stopped_at + seconds

    def go_on(self) -> None:
        if self.stopped_at is not None:
            self._signal(signal.SIGCONT)
            self.stops.append((self.stopped_at, time.time()))
            self.stopped_at = None

    def kill(self) -> None:
        """SIGKILL, whether it is stopped or not."""
        self.killed = time.time()
        self._signal(signal.SIGKILL)
        if self.stopped_at is not None:
            self.stops.append((self.stopped_at, time.time()))
            self.stopped_at = None

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Worker:
    """One place for a worker: its processes follow each other. All that it says goes to `said`."""

    def __init__(self, number: int, args: list[str], env: Mapping[str, str], directory: Path, place: str = "") -> None:
        self.lives: list[Life] = []
        self.said = directory / f"worker-{number}.txt"
        self.start_at = 0.0
        self.place = place
        self._args, self._directory = args, directory
        self._env = {**environment(directory), "PYTHONPATH": str(SITE), **env}
        self._process: subprocess.Popen[bytes] | None = None
        self._first: Life | None = None

    def processes(self) -> Iterator[Life]:
        """Those that have not ended, orphans included."""
        return (life for life in self.lives if life.ended is None)

    def start(self) -> None:
        started = time.time()
        with self.said.open("ab") as file:
            self._process = subprocess.Popen(
                [str(SCRIPT), "callback-run", *self._args],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self._env,
                cwd=self._directory,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._first = Life(self._process.pid, started, place=self.place)
        self.lives.append(self._first)

    def tend(self, restart: bool, rng: random.Random) -> None:
        """Continue what was stopped long enough; notice what began and ended; start again."""
        self._look()
        for life in self.processes():
            if life.stopped_at is not None and time.time() >= life.continue_at:
                life.go_on()
        if self._process is None and restart:
            if self.start_at == 0:
                self.start_at = time.time() + rng.uniform(0.1, 1)
            elif time.time() >= self.start_at:
                self.start_at = 0
                self.start()

    def terminate(self, timeout: float) -> None:
        """SIGTERM, and wait for the end of all its processes; what does not end is killed, and ends with -9."""
        for life in self.processes():
            life.go_on()
        if self._process is not None:
            self._process.terminate()
        end = time.monotonic() + timeout
        while list(self.processes()) and time.monotonic() < end:
            self._look()
            time.sleep(0.02)
        self.end()

    def end(self) -> None:
        """Kill what is left of it."""
        for life in list(self.processes()):
            os.kill(life.pid, signal.SIGKILL)  # not `kill`: it should have ended by itself
            if self._process is not None and life is self._first:
                self._process.wait(30)
        self._look()

    def _look(self) -> None:
        now = time.time()
        if self._process is not None and self._first is not None:
            known = {life.pid for life in self.lives}
            with suppress(OSError):
                children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
                self.lives += [Life(int(pid), now, True, self.place) for pid in children if int(pid) not in known]
            if (code := self._process.poll()) is not None:
                self._first.code, self._first.ended = code, now
                self._process = None
        for life in self.processes():
            if life.helper and not alive(life.pid):
                life.ended = now


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
