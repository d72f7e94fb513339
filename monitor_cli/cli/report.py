"""report: what was, for the engineer at three in the morning and the auditor next year."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import tzinfo
from typing import Any, NamedTuple

import click

from monitor_cli.cli import report_output as output
from monitor_cli.cli.completing import complete_account
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import not_empty, read_time, reads
from monitor_cli.cli.report_output import Report
from monitor_cli.db import Connection
from monitor_cli.dialect import now_ms
from monitor_cli.errors import UsageError
from monitor_cli.reports import availability, deliveries, incidents
from monitor_cli.reports.history import Past
from monitor_cli.reports.window import Window, month, read_zone
from monitor_cli.store import accounts, past
from monitor_cli.types import DAY_MS
from monitor_cli.words import many

_DAYS = 30  # of a window whose beginning is not said
CELLS = 360  # parts of a timeline: of a month, two hours each


class Asked(NamedTuple):
    """What all reports are asked for."""

    since: str | None
    until: str | None
    month: str | None
    account: str | None
    timezone: str
    form: str | None
    html: str | None

    @property
    def forms(self) -> str:
        """What goes to stdout: nothing where a page was asked for alone."""
        return self.form or ("" if self.html else "table")


_OPTIONS = (
    click.option("--since", metavar="TIME", help="From then on: a time, or 90m, 2h, 7d ago. Default: 30 days before."),
    click.option("--until", metavar="TIME", help="Until then, not included. Default: now."),
    click.option("--month", metavar="YYYY-MM", help="A calendar month, instead of --since and --until."),
    click.option(
        "--account",
        metavar="NAME",
        callback=reads(not_empty),  # else a customer would be sent a report of everybody
        shell_complete=complete_account,
        help="What concerns this account alone.",
    ),
    click.option(
        "--timezone",
        metavar="ZONE",
        default="UTC",
        show_default=True,
        help="By whose clock months and days begin, and times are given and shown: Asia/Kolkata.",
    ),
    click.option("--format", "form", type=click.Choice(output.FORMS), help="What to print. Default: table."),
    click.option("--json", "as_json", is_flag=True, help="The same as --format json."),
    click.option(
        "--html",
        type=click.Path(allow_dash=True),
        metavar="FILE",
        callback=reads(not_empty),
        help="Write a page to this file (-: stdout); nothing else, without --format.",
    ),
)
_by = click.option("--by", type=click.Choice(["region", "server"]), help="The regions alone, or the servers.")


def _asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every report; the command gets them as one `asked`."""

    def asking(app: App, as_json: bool, **given: Any) -> None:
        own = {name: value for name, value in given.items() if name not in Asked._fields}
        asked = Asked(**{name: given[name] for name in Asked._fields})
        if as_json:
            if asked.form not in (None, "json"):
                raise UsageError("--json and --format say different things")
            asked = asked._replace(form="json")
        if asked.form and asked.html == "-":
            raise UsageError("--html - writes the page to stdout, where --format writes too")
        command(app, asked, **own)

    asking.__doc__, asking.__name__ = command.__doc__, command.__name__
    for option in reversed(_OPTIONS):
        asking = option(asking)
    return pass_app(asking)


@click.group()
def command() -> None:
    """Reports over a time: availability, incidents, deliveries.

    \b
    Example:  monitor-cli report availability --month 2026-10
    """


@command.command("availability")
@_by
@_asks
def availability_(app: App, asked: Asked, by: str | None) -> None:
    """How long each region and server was operational, warning and critical, and how soon it was mended.

    Without --by, regions and servers.

    \b
    Example:  monitor-cli report availability --month 2026-10 --timezone Asia/Kolkata --html october.html
    """
    with _history(app, asked, cells=CELLS if asked.html else 0, noting="region" if asked.html else "") as told:
        periods = incidents.periods(told.past)
        parts = {
            "regions": (availability.REGION_KEYS, lambda: availability.regions(told.past)),
            "servers": (availability.SERVER_KEYS, lambda: availability.servers(told.past)),
        }
        kept = {name: part for name, part in parts.items() if by is None or name == f"{by}s"}
        report = Report("availability", told.window, asked.account, told.notes(), kept)
        output.show(report, asked.forms)
        if asked.html:
            rows = incidents.listed(told.conn, told.window, told.past, periods, told.account_id)
            output.write_availability(asked.html, report, told.past, list(rows))


@command.command("incidents")
@_by
@_asks
def incidents_(app: App, asked: Asked, by: str | None) -> None:
    """Each time in which a region was not operational (--by server: a server): whom it concerned, who was told.

    \b
    Example:  monitor-cli report incidents --since 7d --account acme
    """
    by = by or "region"
    with _history(app, asked, cells=CELLS if asked.html else 0, noting=by) as told:
        periods = incidents.periods(told.past)
        rows = list(incidents.listed(told.conn, told.window, told.past, periods, told.account_id))
        keys = incidents.REGION_KEYS if by == "region" else incidents.SERVER_KEYS
        report = Report(
            "incidents", told.window, asked.account, told.notes(), {"incidents": (keys, lambda: iter(rows))}
        )
        output.show(report, asked.forms)
        if asked.html:
            output.write_incidents(asked.html, report, told.past, rows)


@command.command("deliveries")
@_asks
def deliveries_(app: App, asked: Asked) -> None:
    """What each account and callback was sent: attempts, how soon changes were told, what failed, what is owed.

    \b
    Example:  monitor-cli report deliveries --since 24h --format csv
    """
    zone = _zone(asked.timezone)
    with app.database.read() as conn:
        window = _window(asked, zone, now_ms(conn))
        account_id = accounts.find(conn, asked.account).id if asked.account else None
        notes = _kept(
            past.tellings_kept_from(conn), window, "deliveries and attempts are", "What was before is not counted."
        )
        found = deliveries.measure(conn, window, account_id)
    parts = {
        "accounts": (deliveries.ACCOUNT_KEYS, found.accounts),
        "callbacks": (deliveries.CALLBACK_KEYS, found.each),
    }
    report = Report("deliveries", window, asked.account, notes, parts)
    output.show(report, asked.forms)
    if asked.html:
        output.write_deliveries(asked.html, report)


class _Told(NamedTuple):
    """A window's history, opened."""

    conn: Connection
    window: Window
    account_id: int | None
    past: Past
    oldest: int | None

    def notes(self) -> list[str]:
        notes = _kept(
            self.oldest,
            self.window,
            "the history is",
            "Before its oldest change that is kept, a server counts as what that change changed from.",
        )
        if self.past.odd:
            notes.append(
                f"{many(self.past.odd, 'server')} not as the history says: another program wrote the row, or it was "
                "moved. That counts from the time in its column modified."
            )
        if self.past.undated:
            notes.append(
                f"{many(self.past.undated, 'server')} not as the history says, and the column modified does not tell "
                "since when: what the history says counts."
            )
        return notes


@contextmanager
def _history(app: App, asked: Asked, *, cells: int, noting: str) -> Iterator[_Told]:
    zone = _zone(asked.timezone)
    with app.database.read() as conn:
        window = _window(asked, zone, now_ms(conn))
        account_id, channels = None, None
        if asked.account:
            account_id = accounts.find(conn, asked.account).id
            channels = past.channels_of(conn, account_id)
        opened = Past(conn, window, channels, cells=cells, noting=noting)
        yield _Told(conn, window, account_id, opened, past.changes_kept_from(conn))


def _kept(oldest: int | None, window: Window, what: str, then: str) -> list[str]:
    """What to say where the window begins before what is kept."""
    if oldest is not None and oldest <= window.since:
        return []
    since = f"kept from {output.shown_time(oldest, window)} on only" if oldest is not None else "empty"
    return [f"{what} {since}, and the window begins before that. {then}"]


def _zone(name: str) -> tzinfo:
    try:
        return read_zone(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--timezone'") from None


def _window(asked: Asked, zone: tzinfo, now: int) -> Window:
    """The window that was asked for; what has not happened yet is not in it. Raises UsageError (2)."""
    since: int | None
    if asked.month is not None:
        if asked.since is not None or asked.until is not None:
            raise UsageError("--month stands instead of --since and --until")
        since, until = _month(asked.month, zone)
    else:
        until = _time("--until", asked.until, zone) if asked.until is not None else now
        since = _time("--since", asked.since, zone) if asked.since is not None else None
        if since is None:
            since = max(0, min(until, now) - _DAYS * DAY_MS)
    if since >= until:
        raise UsageError("the window is empty: --since is not before --until")
    if since >= now:
        raise UsageError(
            f"the window begins at {output.shown_time(since, Window(since, until, zone))}, which is to come"
        )
    return Window(since, min(until, now), zone)


def _time(option: str, given: str, zone: tzinfo) -> int:
    try:
        return read_time(given, zone)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"'{option}'") from None


def _month(given: str, zone: tzinfo) -> tuple[int, int]:
    try:
        return month(given, zone)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--month'") from None
