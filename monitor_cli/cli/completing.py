"""What the shell's completion offers beside commands and options: accounts, callbacks and sources by name.

Somebody has pressed TAB: whatever is wrong (no configuration, no database, a password refused) nothing is offered, and
nothing is said; two seconds are all that a database is given.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from monitor_cli.cli.alarm import TimedOut, at_most
from monitor_cli.cli.context import App
from monitor_cli.cli.output import cell
from monitor_cli.db import Connection, Database
from monitor_cli.store import names

T = TypeVar("T")

_SECONDS = 2.0
_AGAIN = 0.1  # where a library took the first interruption for an error of its own
# What every shell takes as it stands, and puts nothing else in its place for.
_PLAIN = re.compile(r"[\w.@+-]+")

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def _completer(find: Callable[[App, str], Iterable[CompletionItem[str]]]) -> Completer:
    def complete(context: click.Context, _parameter: click.Parameter, start: str) -> list[CompletionItem[str]]:
        app = App(context.find_root().params.get("config_path"), verbose=0)
        logging.disable()
        try:
            return [item for item in find(app, start) if _PLAIN.fullmatch(item.value)]
        except (Exception, TimedOut):
            return []
        finally:
            logging.disable(logging.NOTSET)

    return complete


def _query(app: App, work: Callable[[Connection], list[T]]) -> list[T]:
    with closing(Database(app.settings.database_url, serving=True)) as database, at_most(_SECONDS, _AGAIN):
        return database.query(work)


@_completer
def complete_account(app: App, start: str) -> list[CompletionItem[str]]:
    """The accounts' names."""
    return [CompletionItem(name) for name in _query(app, lambda conn: names.of_accounts(conn, start))]


@_completer
def complete_callback(app: App, start: str) -> list[CompletionItem[str]]:
    """The callbacks' ids, with whose they are for the shells that show it."""
    found = _query(app, lambda conn: names.of_callbacks(conn, start))
    return [CompletionItem(str(one.id), help=cell(f"{one.name}, of {one.account}")) for one in found]


@_completer
def complete_source(app: App, start: str) -> list[CompletionItem[str]]:
    """The configured sources' names."""
    found = [source for source in app.settings.sources if source.name.startswith(start)]
    return [CompletionItem(source.name, help=cell(source.provider)) for source in found]
