"""server: the rows of infi_voice_monitor as people edit them."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from monitor_cli.cli import server_import
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import WholeNumber, reads
from monitor_cli.cli.output import confirm, json_option, print_json, print_record, print_rows, yes_option
from monitor_cli.db import AnyRow
from monitor_cli.store import servers
from monitor_cli.store.server_import import cell
from monitor_cli.types import Type
from monitor_cli.words import iso

F = TypeVar("F", bound=Callable[..., Any])

SERVER = WholeNumber(1, 2**31 - 1)
_HELP = {
    "server_id": "The server (a SMALLINT).",
    "name": "Its name.",
    "server_tag": "Its component's id at the source.",
    "channel_id": "The channel that it serves.",
    "region": "Where, as karnataka.",
    "region_code": "Where, as KA-IN.",
    "capacity": "Channels that it has.",
    "used": "Channels in use.",
    "primary_server": "Its primary server.",
    "meta": "Anything.",
    "incident_status": "Its status in the source's own words.",
    "final_status": "Its type: operational, warning or critical.",
}
_TABLE = ("id", "server_id", "name", "server_tag", "channel_id", "region", "region_code", "incident_status")


def _options(required: bool) -> Callable[[F], F]:
    def add(function: F) -> F:
        for name in reversed([*servers.REQUIRED, *servers.OPTIONAL]):
            function = click.option(
                "--" + name.replace("_", "-"),
                required=required and name in servers.REQUIRED,
                metavar="TEXT" if name not in ("server_id", "channel_id", "capacity", "used") else "NUMBER",
                callback=reads(servers.READERS[name]),
                help=_HELP[name],
            )(function)
        return function

    return add


@click.group()
def command() -> None:
    """The voice servers, whose status is watched.

    \b
    Example:  monitor-cli server import servers.csv
    """


@command.command("add")
@_options(required=True)
@json_option
@pass_app
def add(app: App, /, as_json: bool, **values: Any) -> None:
    """Add a server and print its id (with --json: its row). It is operational unless --final-status says otherwise.

    \b
    Example:  monitor-cli server add --server-id 4 --name voice-4 --server-tag b13yz5g2cw10 --channel-id 7 \\
                --region karnataka --region-code KA-IN
    """
    given = {name: value for name, value in values.items() if value is not None}
    server = app.database.transact(lambda conn: servers.add(conn, given))
    if not as_json:
        click.echo(server)
        return
    with app.database.read() as conn:
        print_json(_row(servers.find(conn, [server])[server]))


@command.command("list")
@click.option("--server-id", callback=reads(servers.READERS["server_id"]), metavar="NUMBER", help="Of this server.")
@click.option("--channel-id", callback=reads(servers.READERS["channel_id"]), metavar="NUMBER", help="On this channel.")
@click.option("--server-tag", metavar="TEXT", help="Of this component.")
@click.option("--region", metavar="TEXT", help="In this region.")
@click.option("--region-code", metavar="TEXT", help="In this region, by its code.")
@click.option("--type", "kind", type=click.Choice([t.word for t in Type], case_sensitive=False), help="Of this type.")
@json_option
@pass_app
def list_(app: App, /, kind: str | None, as_json: bool, **chosen: Any) -> None:
    """List the servers, all or those that all the options name.

    \b
    Example:  monitor-cli server list --region-code KA-IN --type critical
    """
    with app.database.read() as conn:
        rows = servers.listed(conn, servers.Filter(**chosen, type=Type.read(kind)))
        print_rows(map(_row, rows), as_json, [*_TABLE, "final_status", "status_report"], of="servers")


@command.command("show")
@click.argument("server", type=SERVER, metavar="ID")
@json_option
@pass_app
def show(app: App, server: int, as_json: bool) -> None:
    """Show a server's row.

    \b
    Example:  monitor-cli server show 12
    """
    with app.database.read() as conn:
        print_record(_row(servers.find(conn, [server])[server]), as_json)


@command.command("edit")
@click.argument("server", type=SERVER, metavar="ID")
@_options(required=False)
@pass_app
def edit(app: App, /, server: int, **values: Any) -> None:
    """Change what the options name. Customers whose numbers get another type by it are told.

    \b
    Example:  monitor-cli server edit 12 --channel-id 9 --region kerala --region-code KL-IN
    """
    # What was given, None included: --meta "" empties it.
    source = click.get_current_context().get_parameter_source
    given = {name: value for name, value in values.items() if source(name) is ParameterSource.COMMANDLINE}
    if not given:
        raise click.UsageError("there is nothing to change: name at least one column")
    app.database.transact(lambda conn: servers.edit(conn, server, given))


@command.command("remove")
@click.argument("ids", type=SERVER, metavar="ID...", nargs=-1, required=True)
@yes_option
@pass_app
def remove(app: App, ids: tuple[int, ...], yes: bool) -> None:
    """Remove servers. Customers whose numbers get another type by it are told.

    \b
    Example:  monitor-cli server remove 12 --yes
    """
    with app.database.read() as conn:
        names = ", ".join(f"{row.id} ({row.name})" for row in servers.find(conn, ids).values())
    confirm(f"Remove server {names}?", yes)
    app.database.transact(lambda conn: servers.remove(conn, ids))


command.add_command(server_import.command)


@command.command("export")
@pass_app
def export(app: App) -> None:
    """Print all servers as a CSV file that import takes.

    \b
    Example:  monitor-cli server export > servers.csv
    """
    out = sys.stdout.buffer
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(servers.COLUMNS)
    with app.database.read() as conn:
        for count, row in enumerate(servers.listed(conn), 1):
            writer.writerow([cell(row._mapping[name]) for name in servers.COLUMNS])
            if count % 1000 == 0:
                _flush(text, out)
    _flush(text, out)


def _flush(text: io.StringIO, out: Any) -> None:
    out.write(text.getvalue().encode())
    out.flush()
    text.seek(0)
    text.truncate()


def _row(row: AnyRow) -> dict[str, Any]:
    return {**row._mapping, "created": _time(row.created), "modified": _time(row.modified)}


def _time(seconds: int | None) -> str | None:
    return iso(seconds * 1000 if seconds is not None else None)
