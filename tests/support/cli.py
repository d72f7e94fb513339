"""Running monitor-cli as people and cron do: in this process (fast), or the installed script as one of its own."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from monitor_cli import config
from monitor_cli.cli import run
from tests.support import network_guard

SCRIPT = Path(sys.executable).parent / "monitor-cli"
_KEPT = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "TZ")


@dataclass(frozen=True)
class Result:
    """How a run ended: exit code (negative: the signal) and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    def ok(self) -> Result:
        """Itself, if it ended with 0; fails with what it printed otherwise."""
        assert self.code == 0, f"exit code {self.code}\n{self.out[-2000:]}\n{self.err[-2000:]}"
        return self

    def quiet(self) -> Result:
        """Itself, if it ended with 0 and said nothing (cron manners)."""
        assert (self.code, self.out, self.err) == (0, "", "")
        return self


class Running:
    """A process of monitor-cli. Its output goes to files, so that it never waits for a reader."""

    def __init__(self, command: list[str], env: Mapping[str, str], stdin: str | None, cwd: Path) -> None:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        if stdin is not None and self.popen.stdin is not None:
            with suppress(BrokenPipeError):
                self.popen.stdin.write(stdin.encode())
                self.popen.stdin.close()

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens where it has ended."""
        with suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def kill(self) -> Result:
        """SIGKILL, and how it ended."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def terminate(self, timeout: float = 60) -> Result:
        """SIGTERM, and how it ended."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def stop(self) -> None:
        self.signal(signal.SIGSTOP)

    def cont(self) -> None:
        self.signal(signal.SIGCONT)

    def wait(self, timeout: float = 120) -> Result:
        """How it ended; fails (and kills it) where it runs longer than `timeout` seconds."""
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"still running after {timeout} s: {self.output()}") from None
        return Result(code, *self.output())

    def output(self) -> tuple[str, str]:
        """What it has printed so far: stdout, stderr."""
        return _text(self._out), _text(self._err)

    def end(self) -> None:
        """Kill it and its children, if they are still there."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(30)


class Cli:
    """monitor-cli on one database, with an environment of its own (no settings but the database and `env`).

    cli("server", "list", "--json").ok().json
    cli.process("incident-sync").code
    running = cli.start("callback-run", "--watch"); running.kill()
    """

    def __init__(self, url: str | None, home: Path) -> None:
        self.home = home
        self.env: dict[str, str] = {"MONITOR_DATABASE_URL": url} if url else {}
        self._running: list[Running] = []

    def __call__(self, *args: str, env: Mapping[str, str] | None = None, stdin: str | bytes = b"") -> Result:
        """Run it in this process; `env` adds to the environment."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        env = {"MONITOR_PROCESSES": "1", **(env or {})}  # this process has threads: it is no place to fork
        with _process_state(self.environment(env), given, self.home) as (out, err):
            try:
                code = run(list(args))
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            out.flush()
            err.flush()
            return Result(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))

    def ok(self, *args: str, **options: Any) -> Result:
        """The same; fails unless it ends with 0."""
        return self(*args, **options).ok()

    def process(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: str | None = None, timeout: float = 120
    ) -> Result:
        """Run the installed script as a process of its own, to its end."""
        return self.start(*args, env=env, stdin=stdin).wait(timeout)

    def on_terminal(self, *args: str) -> Result:
        """The installed script with its stdout on a terminal, which is not read."""
        main, terminal = pty.openpty()
        done = subprocess.run(
            [str(SCRIPT), *args],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=self.environment(),
            timeout=60,
            text=True,
        )
        os.close(terminal)
        os.close(main)
        return Result(done.returncode, "", done.stderr)

    def start(self, *args: str, env: Mapping[str, str] | None = None, stdin: str | None = None) -> Running:
        """Start the installed script; what still runs at the test's end is killed."""
        report = self.home / "network-violations"
        environment = {**network_guard.child_environment(str(report)), **self.environment(env)}
        running = Running([str(SCRIPT), *args], environment, stdin, self.home)
        self._running.append(running)
        return running

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment that a run gets."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own = {
            "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "LANG": "C.UTF-8",
        }
        if config.SYSTEM_FILE.exists():  # the machine's own configuration is not the test's
            empty = self.home / "empty.toml"
            empty.touch()
            own["MONITOR_CONFIG"] = str(empty)
        return {**kept, **own, **self.env, **(env or {})}

    def close(self) -> None:
        """End what was started, and pass on what the guard of those processes saw."""
        for running in self._running:
            running.end()
        report = self.home / "network-violations"
        if report.exists():
            network_guard.violations.extend(report.read_text().splitlines())


def _text(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), 1 << 26, 0).decode(errors="replace")


@contextmanager
def _process_state(
    environment: Mapping[str, str], stdin: bytes, cwd: Path
) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Environment, streams, working directory and signal handlers as a process of its own would have them."""
    saved = dict(os.environ), (sys.stdin, sys.stdout, sys.stderr), Path.cwd()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd)
        sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"), out, err
        yield out, err
    finally:
        os.environ.clear()
        os.environ.update(saved[0])
        sys.stdin, sys.stdout, sys.stderr = saved[1]
        os.chdir(saved[2])
        for number, handler in handlers.items():
            signal.signal(number, handler)
