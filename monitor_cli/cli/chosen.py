"""Which sources a command is to read: the options --source, --provider, --url and --file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from monitor_cli.cli.completing import complete_source
from monitor_cli.config import Settings
from monitor_cli.errors import UsageError
from monitor_cli.providers import AUTO, PROVIDERS
from monitor_cli.sources import LIMIT, File
from monitor_cli.sync.chosen import Choice, choose

F = TypeVar("F", bound=Callable[..., Any])

STDIN = "standard input"
_ENOUGH = LIMIT + 1  # bytes of a file: one too many, which makes it a source that fails like any other
_OPTIONS = (
    click.option(
        "--source",
        "name",
        metavar="NAME",
        shell_complete=complete_source,
        help="Read this one of the configured sources only.",
    ),
    click.option(
        "--provider",
        metavar="NAME",
        type=click.Choice([AUTO, *PROVIDERS]),
        help=f"What kind of status page it is: {', '.join([AUTO, *PROVIDERS])}.",
    ),
    click.option("--url", help="Read this page, or this document."),
    click.option(
        "--file",
        "paths",
        metavar="PATH",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        help="Read a document from a file (- is standard input); again for a page's second one.",
    ),
)


def source_options(function: F) -> F:
    """Adds the options; the command gets them as `name`, `provider`, `url` and `paths`, for `chosen`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def chosen(
    settings: Settings, name: str | None, provider: str | None, url: str | None, paths: tuple[str, ...]
) -> Choice:
    """The sources that the options mean. Raises UsageError (2), ConfigError (78)."""
    if url is not None and paths:
        raise UsageError("--url and --file exclude each other")
    if paths.count("-") > 1:
        raise UsageError("--file - can be given once: standard input is one document")
    return choose(settings, name, provider, url, [_file(path) for path in paths])


def _file(path: str) -> File:
    if path == "-":
        return File(STDIN, sys.stdin.buffer.read(_ENOUGH))
    name = path.encode("utf-8", "replace").decode()
    try:
        with open(path, "rb") as file:
            return File(name, file.read(_ENOUGH))
    except OSError as error:
        raise UsageError(f"--file {name}: {error.strerror}") from None
