"""source: the status pages that are read, what they have, and which servers match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from monitor_cli.cli.chosen import chosen, source_options
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.output import cell, json_option, print_json, print_record, print_rows
from monitor_cli.config import Source
from monitor_cli.errors import OutsideError
from monitor_cli.sources import shown
from monitor_cli.store import reports
from monitor_cli.sync.chosen import configured
from monitor_cli.sync.survey import Servers, SourceSurvey, Surveyed, survey
from monitor_cli.words import iso, listed

_NAMED = 20  # of the servers, or tags, that a line for people names
_STATE = reports.State(None, None, None)  # of a source that was never read


@click.group()
def command() -> None:
    """The status pages that incident-sync reads.

    \b
    Example:  monitor-cli source check --url https://status.example.com
    """


@command.command("list")
@json_option
@pass_app
def list_(app: App, as_json: bool) -> None:
    """List the configured sources, and how reading each went last.

    \b
    Example:  monitor-cli source list
    """
    with app.database.read() as conn:
        states = reports.source_states(conn)
    rows = [_listed(source, states.get(source.name, _STATE)) for source in configured(app.settings)]
    print_rows(rows, as_json, of="sources")


def _listed(source: Source, state: reports.State) -> dict[str, Any]:
    return {
        "name": source.name,
        "provider": source.provider,
        "url": shown(source.url),
        "last_good_at": iso(state.last_good_at),
        "failing_since": iso(state.failing_since),
        "error": state.error,
    }


@command.command("check")
@source_options
@json_option
@pass_app
def check(
    app: App, name: str | None, provider: str | None, url: str | None, paths: tuple[str, ...], as_json: bool
) -> None:
    """Read sources and show their components: word, type, server_tag, and the servers that have it. Changes nothing.

    Shown too are ids that no server can have, and server_tags that no component has (of the sources that were read).
    Exit code 75 where a source cannot be read.

    \b
    Example:  monitor-cli source check --url https://status.example.com
    """
    choice = chosen(app.settings, name, provider, url, paths)
    surveys, unmatched = survey(app.database, choice.wanted)
    if as_json:
        print_json({"sources": [_object(one) for one in surveys], "unmatched": _unmatched(unmatched)})
    else:
        _print(surveys, unmatched)
    if failed := [f"{one.source.name}: {one.error}" for one in surveys if one.error is not None]:
        raise OutsideError("\n  ".join(["cannot be read:", *failed]) if len(failed) > 1 else failed[0])


def _object(one: SourceSurvey) -> dict[str, Any]:
    return {
        "name": one.source.name,
        "provider": one.reading.provider if one.reading else one.source.provider,
        "url": shown(one.source.url),
        "documents": one.reading.documents if one.reading else [],
        "only_affected": one.only_affected,
        "error": one.error,
        "components": [_component(component) for component in one.components],
    }


def _component(one: Surveyed) -> dict[str, Any]:
    incident = one.component.incident
    return {
        "id": one.component.id,
        "name": one.component.name,
        "word": one.component.word,
        "type": one.type.word if one.type is not None else None,
        "known": one.known,
        "server_tag": one.server_tag,
        "unfit": one.unfit or None,
        "servers": list(one.servers),
        "incident": {"title": incident.title, "link": incident.link} if incident else None,
    }


def _unmatched(servers: Servers) -> list[dict[str, Any]]:
    return [{"server_tag": tag, "servers": list(ids)} for tag, ids in sorted(servers.items())]


# --- for people -------------------------------------------------------------------------------------------------------


def _print(surveys: Sequence[SourceSurvey], unmatched: Servers) -> None:
    for one in surveys:
        print_record(_head(one), as_json=False)
        click.echo()
        print_rows(map(_row, one.components), as_json=False)
        if one.components:
            click.echo()
    if unmatched and any(one.reading for one in surveys):
        silent = any(one.only_affected for one in surveys)
        what = "not named, so operational" if silent else "that no component has"
        click.echo(cell(f"server_tags {what}: {listed(sorted(unmatched), _NAMED)}"))


def _head(one: SourceSurvey) -> dict[str, Any]:
    facts = {key: value for key, value in _object(one).items() if key in ("name", "provider", "url", "error") and value}
    if one.reading is not None:
        matching = sum(bool(component.servers) for component in one.components)
        facts["documents"] = ", ".join(one.reading.documents)
        facts["components"] = f"{len(one.components)} ({matching} with a server)"
    return facts


def _row(one: Surveyed) -> dict[str, Any]:
    shown = _component(one)
    keys = ("id", "name", "word", "type", "server_tag")
    return {
        **{key: shown[key] for key in keys},
        "servers": listed(list(map(str, one.servers)), _NAMED),
        "note": "; ".join(_notes(one)),
    }


def _notes(one: Surveyed) -> Iterator[str]:
    if not one.known:
        yield "unknown word"
    if one.type is None:
        yield "says nothing: the server keeps its status"
    if one.unfit:
        yield f"no server can have this: it {one.unfit}"
    if one.component.incident:
        yield one.component.incident.title
