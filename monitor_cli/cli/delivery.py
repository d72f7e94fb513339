"""delivery: what was sent to whom, and what they answered."""

from __future__ import annotations

import time
from typing import Any

import click

from monitor_cli.cli.completing import complete_account, complete_callback
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import ID, WholeNumber, check_window, read_time, reads
from monitor_cli.cli.output import json_option, print_json, print_record, print_rows
from monitor_cli.store import deliveries
from monitor_cli.store.deliveries import Attempt, Choice, Delivery
from monitor_cli.words import iso

_LOOKED_BACK_MS = 7 * 24 * 3600 * 1000
_SHOWN_CHARACTERS = 60  # of an error or an answer, in a table
_TABLE = ("id", "callback_id", "account", "state", "attempts", "created_at", "next_attempt_at", "http_status", "error")


@click.group()
def command() -> None:
    """The deliveries: the work of telling one callback, with each attempt and its answer.

    \b
    Example:  monitor-cli delivery list --account acme --state failed
    """


@command.command("list")
@click.option(
    "--callback", "callback_id", type=ID, metavar="ID", shell_complete=complete_callback, help="Of this callback."
)
@click.option("--account", metavar="NAME", shell_complete=complete_account, help="Of this account.")
@click.option("--state", type=click.Choice(deliveries.STATES), help="In this state.")
@click.option(
    "--since", "since_at", metavar="TIME", callback=reads(read_time), help="Created since: a time, or 90m, 2h, 7d ago."
)
@click.option("--until", "until_at", metavar="TIME", callback=reads(read_time), help="Created until then, likewise.")
@click.option("--limit", type=WholeNumber(1, 10_000), default=100, show_default=True, help="The newest so many.")
@json_option
@pass_app
def list_(app: App, /, as_json: bool, limit: int, **choice: Any) -> None:
    """List deliveries, the newest first.

    open: still to be tried; done; failed: its schedule is used up. With --state done or failed alone it looks back 7
    days, unless --since says otherwise.

    \b
    Example:  monitor-cli delivery list --callback 3 --since 2h
    """
    chosen = Choice(**choice)
    check_window(chosen.since_at, chosen.until_at)
    if chosen.state in ("done", "failed") and chosen[:2] == (None, None) and chosen.since_at is None:
        until = int(time.time() * 1000) if chosen.until_at is None else chosen.until_at
        chosen = chosen._replace(since_at=until - _LOOKED_BACK_MS)
    with app.database.read() as conn:
        found = deliveries.listed(conn, chosen, limit)
    rows = map(_shown, found)
    print_rows(rows if as_json else map(_short, rows), as_json, _TABLE, of="deliveries")


@command.command("show")
@click.argument("delivery_id", type=ID, metavar="ID")
@json_option
@pass_app
def show(app: App, delivery_id: int, as_json: bool) -> None:
    """Show a delivery and its attempts, the first one first (in JSON: attempt_list).

    \b
    Example:  monitor-cli delivery show 17
    """
    with app.database.read() as conn:
        delivery, attempts = deliveries.find(conn, delivery_id)
    shown = _shown(delivery)
    listed = [{**attempt._asdict(), "started_at": iso(attempt.started_at)} for attempt in attempts]
    if as_json:
        print_json({**shown, "attempt_list": listed})
        return
    print_record(shown, as_json)
    if listed:
        click.echo()
        print_rows(map(_short, listed), as_json, Attempt._fields)


def _shown(delivery: Delivery) -> dict[str, Any]:
    times = ("next_attempt_at", "created_at", "settled_at")
    return {**delivery._asdict(), **{name: iso(getattr(delivery, name)) for name in times}}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """The row with long texts cut, for a table."""
    return {key: _cut(value) if key in ("error", "response") else value for key, value in row.items()}


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
