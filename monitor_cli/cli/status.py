"""status: the regions and servers now, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import Decimal, WholeNumber
from monitor_cli.cli.output import cell, json_option
from monitor_cli.cli.screen import columns, fitted, on_terminal, redraw, table
from monitor_cli.errors import DatabaseAway
from monitor_cli.health.picture import Cause, Picture, Place, Server, severity, take
from monitor_cli.safetext import to_json
from monitor_cli.store.overview import Owed
from monitor_cli.store.reports import State
from monitor_cli.types import Type, word_of, worst
from monitor_cli.words import elapsed, iso, many

_SHOWN = 50


@click.command()
@click.option("--all", "every", is_flag=True, help="Show every region and server, the operational ones too.")
@click.option("--limit", type=WholeNumber(0), help=f"Show so many servers at most (default {_SHOWN}; JSON: no limit).")
@json_option
@click.option("--watch", is_flag=True, help="Show it again and again, in place on a terminal, until Ctrl-C.")
@click.option("--interval", type=Decimal(min=0.1), help="With --watch: every so many seconds (default 5).")
@pass_app
def command(app: App, every: bool, limit: int | None, as_json: bool, watch: bool, interval: float | None) -> None:
    """Show what is so now: regions and servers in trouble, worst first, since when and from which incident, how many
    numbers and customers that concerns, and what is still owed.

    With --json it is one object; with --watch --json one a line.

    \b
    Example:  monitor-cli status --watch
    """
    if interval is not None and not watch:
        raise click.UsageError("--interval goes with --watch")
    most = limit if limit is not None or as_json or every else _SHOWN

    def draw() -> str:
        with app.database.read() as conn:
            picture = take(conn, every=every, most=most)
        if as_json:
            return to_json(record(picture, most), indent=None if watch else 2)
        return "\n".join(_lines(picture, every, most))

    if watch:
        app.database  # noqa: B018 - one that is not ready is an error, one that goes away later a line
        redraw(lambda: _in_spite(draw, as_json), interval or 5.0)
    else:
        click.echo(draw())


def _in_spite(draw: Any, as_json: bool) -> str:
    try:
        return str(draw())
    except DatabaseAway as error:
        return to_json({"error": error.message}) if as_json else cell(error.message)


# --- JSON -------------------------------------------------------------------------------------------------------------


def record(picture: Picture, most: int | None) -> dict[str, Any]:
    """The picture as its JSON document (docs/operations.md)."""
    types = picture.by_type()
    kind = worst(types)
    shown = picture.servers if most is None else picture.servers[:most]
    return {
        "at": iso(picture.at),
        "type": kind.word if kind is not None else None,
        "servers_total": sum(types.values()),
        "servers_by_type": _counted(types),
        "regions": [_region(place) for place in picture.places],
        "servers": [_server(one, picture) for one in shown],
        "servers_left_out": len(picture.servers) - len(shown),
        "changes_waiting": {"servers": picture.waiting.servers, "since": iso(picture.waiting.since_at)},
        "owed": _owed(picture.owed),
        "kept": _owed(picture.kept),
        "callbacks": picture.callbacks._asdict(),
        "sources": [_source(name, state) for name, state in sorted(picture.sources.items())],
    }


def _counted(types: Mapping[Type | None, int]) -> dict[str, int]:
    return {word_of(kind): types.get(kind, 0) for kind in (*reversed(Type), None)}


def _region(place: Place) -> dict[str, Any]:
    return {
        "region": place.region.region,
        "region_code": place.region.region_code,
        "type": place.type.word if place.type is not None else None,
        "since": iso(place.since_at),
        "incident": _incident(place.cause),
        "servers": _counted(place.servers),
        "numbers": place.reach.numbers,
        "accounts": place.reach.accounts,
    }


def _server(one: Server, picture: Picture) -> dict[str, Any]:
    reach = picture.reach_of(one)
    return {
        "id": one.id,
        "server_id": one.server_id,
        "name": one.name,
        "server_tag": one.server_tag,
        "channel_id": one.channel_id,
        "region": one.region.region,
        "region_code": one.region.region_code,
        "incident_status": one.incident_status,
        "final_status": one.final_status,
        "type": one.type.word if one.type is not None else None,
        "since": iso(one.since_at),
        "incident": _incident(one.cause),
        "numbers": reach.numbers,
        "accounts": reach.accounts,
    }


def _incident(cause: Cause | None) -> dict[str, Any] | None:
    return None if cause is None else cause._asdict()


def _owed(amount: Owed) -> dict[str, Any]:
    return {"callbacks": amount.callbacks, "channels": amount.units, "since": iso(amount.since_at)}


def _source(name: str, state: State) -> dict[str, Any]:
    return {
        "name": name,
        "last_good_at": iso(state.last_good_at),
        "failing_since": iso(state.failing_since),
        "error": state.error,
    }


# --- for people -------------------------------------------------------------------------------------------------------


def _lines(picture: Picture, every: bool, most: int | None) -> Iterator[str]:
    for text, colour in _head(picture):
        yield fitted([(text, colour)], columns())
    places = [one for one in picture.places if every or severity(one.type) < severity(Type.OPERATIONAL)]
    if places:
        heads = ("REGION", "CODE", "TYPE", "SINCE", "SERVERS", "NUMBERS", "CUSTOMERS", "INCIDENT")
        yield ""
        yield from table(heads, [_place_row(one, picture.at) for one in places])
    shown = picture.servers if most is None else picture.servers[:most]
    if shown:
        server_heads = (
            "ID",
            "SERVER",
            "CHANNEL",
            "TYPE",
            "SINCE",
            "REGION",
            "NUMBERS",
            "CUSTOMERS",
            "STATUS",
            "INCIDENT",
        )
        yield ""
        yield from table(server_heads, [_server_row(one, picture) for one in shown])
    if rest := len(picture.servers) - len(shown):
        yield f"and {rest} more: --limit shows more of them, --all every server"


def _head(picture: Picture) -> Iterator[tuple[str, str]]:
    """Lines, each with the type in whose colour it stands."""
    types, now = picture.by_type(), picture.at
    total, kind = sum(types.values()), word_of(worst(types))
    counted = ", ".join(f"{types[one]} {word_of(one)}" for one in (*reversed(Type), None) if types[one])
    yield (f"{kind}  {many(total, 'server')}: {counted}" if total else "no servers") + f"  ({_time(now)})", kind
    yield f"owed: {'; '.join(_owed_words(picture)) or 'nothing'}", ""
    c = picture.callbacks
    yield f"callbacks: {c.active} active ({c.failing} failing), {c.inactive} inactive, {c.off} switched off", ""
    for name, state in sorted(picture.sources.items()):
        colour = "" if state.failing_since is None else Type.CRITICAL.word
        yield f"source {cell(name)}: {_source_words(state, now)}", colour


def _owed_words(picture: Picture) -> Iterator[str]:
    waiting, owed, kept, now = picture.waiting, picture.owed, picture.kept, picture.at
    if waiting.servers:
        yield f"{many(waiting.servers, 'changed server')} not planned yet{_since(waiting.since_at, now)}"
    if owed.callbacks:
        what = f"{many(owed.units, 'channel')} to {many(owed.callbacks, 'callback')}"
        yield f"{what}{_since(owed.since_at, now)}"
    if kept.callbacks:
        yield f"kept for {many(kept.callbacks, 'callback')} that may not be told: {many(kept.units, 'channel')}"


def _source_words(state: State, now: int) -> str:
    good = "never read well"
    if state.last_good_at is not None:
        good = f"read well {elapsed((now - state.last_good_at) / 1000)} ago"
    if state.failing_since is None:
        return good
    return f"failing for {elapsed((now - state.failing_since) / 1000)}, {good}: {cell(state.error)}"


def _place_row(one: Place, now: int) -> tuple[Any, ...]:
    servers = ", ".join(
        f"{one.servers[kind]} {word_of(kind)}" for kind in (*reversed(Type), None) if one.servers.get(kind)
    )
    where = (one.region.region, one.region.region_code, word_of(one.type))
    return *where, _when(one.since_at, now), servers, one.reach.numbers, one.reach.accounts, _title(one.cause)


def _server_row(one: Server, picture: Picture) -> tuple[Any, ...]:
    reach = picture.reach_of(one)
    region = f"{one.region.region} {one.region.region_code}".strip()
    what = (one.id, one.name, one.channel_id, word_of(one.type), _when(one.since_at, picture.at), region)
    return *what, reach.numbers, reach.accounts, one.incident_status, _title(one.cause)


def _title(cause: Cause | None) -> str:
    if cause is None:
        return ""
    said = " ".join(part for part in (cause.title, cause.link) if part)
    return ": ".join(part for part in (cause.source or "by hand", said) if part)


def _when(at: int | None, now: int) -> str:
    if at is None:
        return ""
    ago = elapsed((now - at) / 1000)
    return ago if on_terminal() else f"{_time(at)} ({ago})"


def _since(at: int | None, now: int) -> str:
    return "" if at is None else f", the oldest for {elapsed((now - at) / 1000)}"


def _time(at: int) -> str:
    return iso(at, "seconds") or ""
