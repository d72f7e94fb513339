"""What the play is played with: a database file of its own, and monitor-cli as processes with their output shown."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from monitor_cli.errors import MonitorError

_MARK = 0x6D6F6E64  # SQLite's application_id of a file that a demonstration made
_HOME = Path(__file__).resolve().parents[2]  # where the package is: nothing in a user's folder is imported instead
_SECONDS = 60
_SERVING = "serving "


class Outcome(NamedTuple):
    """What a command printed."""

    out: str
    err: str


class Stage:
    """Runs monitor-cli with these settings alone, and says each command before its output."""

    def __init__(self, say: Callable[[str], None], settings: Mapping[str, str]) -> None:
        self.say = say
        self._environment = _environment(settings)

    def command(self, *args: str, say_output: bool = True) -> Outcome:
        """Run one to its end. Raises MonitorError where it fails."""
        self._announce(args)
        try:
            done = subprocess.run(
                _argv(args),
                env=self._environment,
                cwd=_HOME,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise _failed(args, f"did not end within {_SECONDS} s") from None
        if done.returncode != 0:
            raise _failed(args, f"ended with {done.returncode}", done.stderr)
        if say_output:
            self._show(done.stdout, done.stderr)
        return Outcome(done.stdout, done.stderr)

    @contextmanager
    def server(self, *args: str) -> Iterator[str]:
        """Keep one running that serves HTTP; gives its URL."""
        self._announce([*args, "&"])
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            process = subprocess.Popen(
                _argv(args), env=self._environment, cwd=_HOME, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            try:
                url, line = _wait_for(process, said.fileno(), args)
                self._show(line)
                yield url
            finally:
                _end(process)

    def _announce(self, args: Sequence[str]) -> None:
        self.say(f"$ monitor-cli {' '.join(arg if arg == '&' else shlex.quote(arg) for arg in args)}")

    def _show(self, *texts: str) -> None:
        for line in "".join(texts).splitlines():
            self.say(f"  {line}")


@contextmanager
def fresh_database(path: Path) -> Iterator[None]:
    """A new file, in place of a former demonstration's; at the end no journal is left beside it. Raises MonitorError
    where the file is somebody else's, or cannot be written."""
    if path.exists() and not _is_ours(path):
        raise MonitorError(f"{path} is there and is no demonstration's", "move it away, or run the demo elsewhere")
    try:
        for name in (path.name, *(path.name + end for end in ("-wal", "-shm", "-journal"))):
            path.with_name(name).unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA application_id = {_MARK}")
    except (OSError, sqlite3.Error) as error:
        raise MonitorError(f"{path} cannot be written: {error}", "run the demo in a folder of yours") from None
    try:
        yield
    finally:
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _is_ours(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            found: tuple[int] = connection.execute("PRAGMA application_id").fetchone()
    except (OSError, sqlite3.Error):
        return False
    return found[0] == _MARK


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The user's environment, but for settings and proxies: all of the play is on this machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MONITOR_") and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONUTF8": "1", "MONITOR_CONFIG": os.devnull, **settings}


def _argv(args: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "monitor_cli", *args]


def _wait_for(process: subprocess.Popen[bytes], output: int, args: Sequence[str]) -> tuple[str, str]:
    """Its URL and what it says, which it does once it takes connections."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        text = os.pread(output, 1 << 16, 0).decode("utf-8", "replace")
        if _SERVING in text and text.endswith("\n"):
            return text.partition(_SERVING)[2].split()[0], text
        if process.poll() is not None:
            raise _failed(args, f"ended with {process.returncode}", text)
        time.sleep(0.05)
    raise _failed(args, f"did not serve within {_SECONDS} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failed(args: Sequence[str], how: str, said: str = "") -> MonitorError:
    return MonitorError(f"the demo stops: monitor-cli {shlex.join(args)} {how}", said.strip() or None)
