"""How commands print: one JSON document or a table on stdout; a question on a terminal before something is removed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import click

from monitor_cli import safetext
from monitor_cli.errors import MonitorError, UsageError

F = TypeVar("F", bound=Callable[..., Any])

_BLOCK = 500  # rows read before they are printed

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask (needed where there is no terminal).")


def print_json(data: Any) -> None:
    click.echo(safetext.to_json(data, indent=2))


def print_rows(
    rows: Iterable[Mapping[str, Any]], as_json: bool, columns: Sequence[str] | None = None, *, of: str | None = None
) -> None:
    """A list command's answer, printed while it is read: an array with a row a line, or a table of the columns
    (default: the keys of the first row). `of`: what they are, to be told on a terminal that there are none."""
    blocks = _blocks(rows)
    if as_json:
        _print_array(blocks)
    elif not _print_table(blocks, columns) and of:
        say_on_terminal(f"no {of}")


def say_on_terminal(words: str) -> None:
    """A line for people, on stderr, where stdout is a terminal: where nothing is printed, that nothing is there."""
    if sys.stdout.isatty():
        click.echo(words, err=True)


def _blocks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rest = iter(rows)
    while block := list(islice(rest, _BLOCK)):
        yield block


def _print_array(blocks: Iterator[list[Mapping[str, Any]]]) -> None:
    start = "["
    for block in blocks:
        lines = [safetext.to_json(dict(row)) for row in block]
        click.echo(start + "\n  " + ",\n  ".join(lines), nl=False)
        start = ","
    click.echo("[]" if start == "[" else "\n]")


def _print_table(blocks: Iterator[list[Mapping[str, Any]]], columns: Sequence[str] | None) -> bool:
    """Whether there was a row."""
    widths: list[int] = []
    for block in blocks:
        chosen = list(columns or block[0])
        columns = chosen
        lines = [[cell(row[c]) for c in chosen] for row in block]
        if not widths:
            lines.insert(0, [c.upper() for c in chosen])
            widths = [0] * len(chosen)
        # A later block may be wider: a table of any length is printed as it comes.
        widths = [max(width, *(len(line[i]) for line in lines)) for i, width in enumerate(widths)]
        texts = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
        click.echo("\n".join(text.rstrip() for text in texts))
    return bool(widths)


def print_record(record: Mapping[str, Any], as_json: bool) -> None:
    """A show command's answer: an object, or a line per key."""
    if as_json:
        print_json(dict(record))
        return
    width = max(map(len, record), default=0)
    for key, value in record.items():
        click.echo(f"{key.ljust(width)}  {cell(value)}".rstrip())


def cell(value: Any) -> str:
    """A value in a table: no control characters (a name must not move the cursor), nothing for NULL."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict):
        return safetext.to_json(value)
    return safetext.masked(value if isinstance(value, str) else str(value))


def confirm(question: str, yes: bool) -> None:
    """Ask before something is removed; without a terminal --yes must have been given. Raises UsageError, MonitorError
    (1) where the answer is no, Abort (130) on Ctrl-C."""
    if yes:
        return
    question = safetext.lines(question)
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to ask on.", "add --yes to do it")
    if not click.confirm(question, err=True):
        raise MonitorError("nothing was removed")
