"""Pictures for people: tables with colour that fit the terminal, and one that is drawn again in place."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from monitor_cli.cli.output import cell

_HOME, _CLEAR, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"
_COLOURS: dict[str, dict[str, Any]] = {
    "critical": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow"},
    "operational": {"fg": "green"},
    "unknown": {"fg": "magenta"},
}
_LEAST = 8  # characters of a column that is cut to fit


def on_terminal() -> bool:
    """Whether stdout is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def coloured() -> bool:
    """Whether colour is wanted: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return on_terminal() and not os.environ.get("NO_COLOR")


def paint(text: str, word: str) -> str:
    """A text in the colour of a type's word, where colour is wanted."""
    return click.style(text, **_COLOURS.get(word, {})) if coloured() else text


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """The lines of a table; on a terminal no wider than it, and with types in colour. The last column is cut, then the
    widest ones, so that long names leave room for what is short."""
    texts = [list(heads), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(heads))]
    room = columns()
    if room is not None:
        _narrow(widths, room - 2 * (len(widths) - 1))
    return [fitted(_line(line, widths), room) for line in texts]


def _narrow(widths: list[int], room: int) -> None:
    """Make columns fit into `room`, or as narrow as they may be."""
    widths[-1] = min(widths[-1], max(_LEAST, room - sum(widths[:-1])))
    while sum(widths) > room and (widest := max(widths)) > _LEAST:
        second = max((width for width in widths if width < widest), default=_LEAST)
        many = widths.count(widest)
        down = min(widest - max(second, _LEAST), -(-(sum(widths) - room) // many))
        widths[:] = [width - down if width == widest else width for width in widths]


def _line(line: Sequence[str], widths: Sequence[int]) -> list[tuple[str, str]]:
    """The cells, padded, each with the word that may give it a colour."""
    return [(cut(text, width).ljust(width), text) for text, width in zip(line, widths, strict=True)]


def fitted(cells: Sequence[tuple[str, str]], room: int | None) -> str:
    """Cells as a line that is cut to `room`; colour takes none."""
    parts, left = [], room
    for number, (text, word) in enumerate(cells):
        piece = text if number == 0 else "  " + text
        if left is not None:
            piece, left = piece[:left], left - len(piece[:left])
        parts.append(paint(piece, word) if word in _COLOURS else piece)
    while parts and not parts[-1].strip():
        parts.pop()
    if parts:
        parts[-1] = parts[-1].rstrip()
    return "".join(parts)


def cut(text: str, width: int) -> str:
    """A text in at most `width` characters."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def columns() -> int | None:
    """How wide a line may be; None: as it comes."""
    return shutil.get_terminal_size().columns if on_terminal() else None


def redraw(draw: Callable[[], str], every_seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Print what `draw` gives, again and again until Ctrl-C: on a terminal in place and no taller than it, else one
    after the other."""
    first = True
    try:
        while True:
            text = draw()
            if on_terminal():
                _draw_in_place(text, first)
            else:
                click.echo(text)
            first = False
            sleep(every_seconds)
    except KeyboardInterrupt:
        if on_terminal():
            click.echo()


def _draw_in_place(text: str, first: bool) -> None:
    lines = text.split("\n")[: shutil.get_terminal_size().lines - 1]
    body = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines)
    click.echo(f"{_CLEAR if first else ''}{_HOME}{body}{_CLEAR_BELOW}", nl=False, color=True)
