"""What commands take from people: values judged as their columns ask, and import files with their progress bar."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, BinaryIO

import click

from monitor_cli.errors import UsageError


class WholeNumber(click.IntRange):
    """A whole number from `min` to `max`; what is none is not said to be "no valid integer range"."""

    name = "whole number"


class Decimal(click.FloatRange):
    """A number from `min` to `max`, likewise; what float() takes beside them, as nan and inf, is none."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return number


ID = WholeNumber(1, 2**63 - 1)
"""The type of an id of ours on the command line."""


LONGEST_LINE = 1024 * 1024  # of a file that people give, in bytes
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(rf"([0-9]{{1,9}})([{''.join(_SECONDS)}])")


def check_window(since_at: int | None, until_at: int | None) -> None:
    """Raises UsageError where no time can be from `--since` until `--until`: both were given, the wrong way round."""
    if since_at is not None and until_at is not None and since_at > until_at:
        raise UsageError("the window is empty: --since is after --until")


def read_time(text: str, zone: tzinfo = UTC) -> int:
    """Reads a point in time, for `reads`: ISO 8601 (in `zone` where it names none), or how long ago: 90m, 2h, 7d. Gives
    milliseconds since 1970."""
    if ago := _AGO.fullmatch(text):
        return max(0, int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000))
    try:
        at = datetime.fromisoformat(text)
        return max(0, int((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is neither a time (2026-01-31T12:00Z) nor a span (90m, 2h, 7d)") from None


def reads(reader: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A parameter's callback that judges its text, or each of its texts, by a reader of store.values."""

    def judge(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(reader(text) for text in value)
            return None if value is None else reader(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return judge


def not_empty(text: str) -> str:
    """For `reads`: an option that was given says something; an empty one is a variable of a script that was not set."""
    if not text:
        raise ValueError("it is empty")
    return text


def read_file(path: str) -> tuple[bytes, str]:
    """The bytes of a file that was named on the command line (- is stdin), and its name for messages. Raises
    UsageError (2) where it cannot be read, or a line has over 1 MiB: then it is no such file, and may never end."""
    if path == "-":
        return _read_lines(sys.stdin.buffer, "stdin"), "stdin"
    try:
        with Path(path).open("rb") as file:
            return _read_lines(file, path), path
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _read_lines(file: BinaryIO, name: str) -> bytes:
    lines: list[bytes] = []
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise UsageError(f"{name}: line {len(lines) + 1} has more than {LONGEST_LINE} bytes", "is it a CSV file?")
        lines.append(line)
    return b"".join(lines)


@contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, if that is a terminal; gives the function that moves it on."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update
