"""The workers of a fault run: processes of the installed monitor-cli that are killed, stopped and started again."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monitor_cli import config
from tests.support.cli import SCRIPT

SITE = Path(__file__).resolve().parent / "site"
_PR_SET_PDEATHSIG = 1


@dataclass
class Life:
    """One process of a worker, from start to end (unix time). `killed` is set by SIGKILL alone; `stops` are the spans
    from SIGSTOP to SIGCONT or to its death."""

    pid: int
    started: float
    errors: Path
    ended: float | None = None
    killed: float | None = None
    code: int | None = None
    stops: list[tuple[float, float]] = field(default_factory=list)


class Worker:
    """One place for a worker: its lives follow each other. `address` is where its requests come from."""

    def __init__(self, number: int, args: list[str], env: Mapping[str, str], directory: Path) -> None:
        self.address = f"127.0.2.{number + 1}"
        self.lives: list[Life] = []
        self._args, self._number = args, number
        self._directory = directory
        empty = directory / "empty.toml"
        empty.touch()
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(SITE),
            "FAULT_SOURCE_ADDRESS": self.address,
            "MONITOR_CONFIG": str(empty) if config.SYSTEM_FILE.exists() else "",
            **env,
        }
        if not self._env["MONITOR_CONFIG"]:
            del self._env["MONITOR_CONFIG"]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_at: float | None = None
        self.continue_at = 0.0
        self.start_at = 0.0

    @property
    def running(self) -> bool:
        """It runs, and is not stopped."""
        return self._process is not None and self._stopped_at is None

    @property
    def stopped(self) -> bool:
        return self._stopped_at is not None

    def start(self) -> None:
        errors = self._directory / f"worker-{self._number}-{len(self.lives)}.txt"
        started = time.time()
        with errors.open("wb") as file:
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
        self.lives.append(Life(self._process.pid, started, errors))

    def stop(self, seconds: float) -> None:
        """SIGSTOP; `tend` continues it."""
        assert self._process is not None
        self._stopped_at = time.time()
        self._process.send_signal(signal.SIGSTOP)
        self.continue_at = self._stopped_at + seconds

    def go_on(self) -> None:
        if self._process is not None and self._stopped_at is not None:
            self._process.send_signal(signal.SIGCONT)
            self._end_stop()

    def kill(self) -> None:
        """SIGKILL, whether it is stopped or not."""
        assert self._process is not None
        self.lives[-1].killed = time.time()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)
        self._end_stop()
        self._reap(self._process.returncode)

    def tend(self, restart: bool, rng: random.Random) -> None:
        """Continue what was stopped long enough; notice an end; start again."""
        if self._stopped_at is not None and time.time() >= self.continue_at:
            self.go_on()
        if self._process is not None and (code := self._process.poll()) is not None:
            self._reap(code)
            self.start_at = time.time() + rng.uniform(0.2, 1)
        if self._process is None and restart and time.time() >= self.start_at:
            self.start()

    def terminate(self, timeout: float) -> None:
        """SIGTERM, and wait for its end; killed where that takes longer."""
        self.go_on()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._reap(self._process.wait(timeout))
        except subprocess.TimeoutExpired:
            self.kill()

    def _end_stop(self) -> None:
        if self._stopped_at is not None:
            self.lives[-1].stops.append((self._stopped_at, time.time()))
            self._stopped_at = None

    def _reap(self, code: int) -> None:
        life = self.lives[-1]
        life.code, life.ended = code, time.time()
        self._process = None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
