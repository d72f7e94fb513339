"""Reading an import file: CSV in UTF-8 whose first line names the columns. Every bad line is named by its number.

A record's number is that of the line in the file where it begins (the header is line 1), so that an editor finds it;
quoted line ends and empty lines count. Lines of all faults are collected, so that one run tells them all.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from monitor_cli.errors import MonitorError
from monitor_cli.words import many

_LISTED = 20
_NOT_UTF8 = re.compile("[\ud800-\udfff]")


class Line(NamedTuple):
    """A record: the number of its first line, and its values by column."""

    number: int
    cells: dict[str, str]


class BadLines:
    """What is wrong with a file, by line. `name` is the file's, for the message; `of`: what its lines are."""

    def __init__(self, name: str, found: Collection[tuple[int, str]] = (), of: str = "line") -> None:
        self.name = name
        self._found = list(found)
        self._of = of

    def add(self, number: int, words: str) -> None:
        self._found.append((number, words))

    def copy(self) -> BadLines:
        """A list of its own: a transaction that is run again finds its faults again."""
        return BadLines(self.name, self._found, self._of)

    def check(self) -> None:
        """Raise MonitorError with each bad line (the first 20 and how many more), if there is one."""
        if not self._found:
            return
        lines: dict[int, list[str]] = {}
        for number, words in sorted(self._found, key=lambda found: found[0]):
            lines.setdefault(number, []).append(words)
        told = [f"{self._of} {number}: {'; '.join(words)}" for number, words in list(lines.items())[:_LISTED]]
        if len(lines) > _LISTED:
            told.append(f"and {len(lines) - _LISTED} more bad {self._of}s")
        count = f"1 bad {self._of}" if len(lines) == 1 else f"{len(lines)} bad {self._of}s"
        raise MonitorError("\n  ".join([f"{self.name}: {count}, nothing was imported", *told]))


def read(data: bytes, name: str, required: Sequence[str], optional: Sequence[str] = ()) -> tuple[list[Line], BadLines]:
    """The records of a file, and what is wrong with the others. Raises MonitorError where the header does not fit."""
    text = data.decode("utf-8-sig", "surrogateescape")  # a line that is not UTF-8 keeps a mark, to be found below
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    bad = BadLines(name)
    header: list[str] | None = None
    lines: list[Line] = []
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            bad.add(number, _csv_words(error))
            continue
        if not row:
            continue
        if header is None:
            header = _check_header(row, number, name, required, optional)
        elif len(row) != len(header):
            bad.add(number, f"it has {many(len(row), 'value')}, the header {len(header)}")
        elif _NOT_UTF8.search("".join(row)):
            bad.add(number, "it is not UTF-8 text")
        else:
            lines.append(Line(number, dict(zip(header, row, strict=True))))
    if header is None:
        bad.check()
        raise MonitorError(f"{name}: line 1: there is no header", _needed(required, optional))
    return lines, bad


def _check_header(
    row: Sequence[str], number: int, name: str, required: Sequence[str], optional: Sequence[str]
) -> list[str]:
    where = f"{name}: line {number}"
    known = [*required, *optional]
    for column in row:
        if column not in known:
            if len(row) == 1 and (";" in column or "\t" in column):
                raise MonitorError(f"{where}: the columns are not separated by commas", _needed(required, optional))
            if _NOT_UTF8.search(column):
                raise MonitorError(f"{where}: it is not UTF-8 text")
            near = difflib.get_close_matches(column, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else _needed(required, optional)
            raise MonitorError(f"{where}: unknown column {column[:60]!r}", hint)
    if doubled := [column for column in known if row.count(column) > 1]:
        raise MonitorError(f"{where}: the column {doubled[0]} is there twice")
    if missing := [column for column in required if column not in row]:
        plural = "s" if len(missing) > 1 else ""
        raise MonitorError(
            f"{where}: the column{plural} {', '.join(missing)} {'are' if plural else 'is'} missing",
            _needed(required, optional),
        )
    return list(row)


def _needed(required: Sequence[str], optional: Sequence[str]) -> str:
    more = f"; it may have: {', '.join(optional)}" if optional else ""
    return f"the first line has to name the columns: {','.join(required)}{more}"


def _csv_words(error: csv.Error) -> str:
    words = str(error)
    if "unexpected end of data" in words:
        return "a quote is opened and not closed before the end of the file"
    if "expected after" in words:
        return "a quoted value goes on after its closing quote (a quote inside is written twice)"
    if "field limit" in words:
        return f"a value has more than {csv.field_size_limit()} characters"
    return f"it is not CSV: {words}"
