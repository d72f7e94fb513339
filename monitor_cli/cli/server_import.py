"""server import: from a CSV file, or from the components of a source."""

from __future__ import annotations

import csv
import io
import logging
import re
from typing import Any

import click

from monitor_cli import csvfile
from monitor_cli.cli.completing import complete_source
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import progress, read_file, reads
from monitor_cli.csvfile import BadLines, Line
from monitor_cli.db import Connection
from monitor_cli.errors import UsageError
from monitor_cli.sources import read
from monitor_cli.store import servers
from monitor_cli.store.server_import import import_servers
from monitor_cli.sync.chosen import choose
from monitor_cli.sync.newcomers import Columns, Numbers, new_servers
from monitor_cli.sync.survey import servers_by_tag, surveyed

log = logging.getLogger(__name__)


class _Numbers(click.ParamType[Numbers]):
    """NUMBER, or NUMBER+."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Numbers:
        if isinstance(value, Numbers):
            return value
        if not re.fullmatch(r"-?[0-9]{1,10}\+?", value):
            self.fail(f"{value!r} is neither a whole number nor one with a plus, as 700+", param, ctx)
        return Numbers(int(value.rstrip("+")), value.endswith("+"))


@click.command("import")
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@click.option(
    "--from-source",
    "name",
    metavar="NAME",
    shell_complete=complete_source,
    help="Add a server for each component of this source without one.",
)
@click.option("--server-id", type=_Numbers(), metavar="N|N+", help="Their server; N+ counts up from N.")
@click.option("--channel-id", type=_Numbers(), metavar="N|N+", help="Their channel; N+ counts up from N.")
@click.option("--region", metavar="TEXT", callback=reads(servers.READERS["region"]), help="Where, as karnataka.")
@click.option("--region-code", metavar="TEXT", callback=reads(servers.READERS["region_code"]), help="Where, as KA-IN.")
@click.option("--dry-run", is_flag=True, help="With --from-source: print the new servers as a CSV file, add none.")
@pass_app
def command(app: App, /, file: str | None, name: str | None, dry_run: bool, **given: Any) -> None:
    """Add and update servers from a CSV file (- is stdin), or add those of a source, all of it or nothing.

    The file's first line names the columns: server_id, name, server_tag, channel_id, region, region_code, and where
    wanted id, capacity, used, primary_server, meta, incident_status, final_status. A line updates the server with its
    id, without one the server with its server_id, channel_id and server_tag; else it is a new server.

    With --from-source each component of a source whose server_tag no server has becomes a server with the component's
    name. What the page does not say the options do; with --dry-run it is printed for import, to be completed by hand.

    \b
    Example:  monitor-cli server import servers.csv
              monitor-cli server import --from-source carrier --server-id 4 --channel-id 700+ --region kerala \\
                --region-code KL-IN
    """
    columns = Columns(**given)
    if (file is None) == (name is None):
        raise UsageError("give a FILE or --from-source, one of them")
    if name is not None:
        _from_source(app, name, columns, dry_run)
    elif dry_run or columns != Columns():
        raise UsageError("--dry-run, --server-id, --channel-id, --region and --region-code go with --from-source")
    else:
        _from_file(app, str(file))


def _from_file(app: App, file: str) -> None:
    data, name = read_file(file)
    lines, bad = csvfile.read(data, name, servers.REQUIRED, ("id", *servers.OPTIONAL))
    with progress(len(lines), "servers") as advance:
        counts = app.database.transact(lambda conn: import_servers(conn, lines, bad, advance))
    log.info("servers.imported", extra={"facts": counts._asdict()})


def _from_source(app: App, name: str, columns: Columns, dry_run: bool) -> None:
    if not dry_run and (missing := columns.missing()):
        options = ", ".join("--" + column.replace("_", "-") for column in missing)
        raise UsageError(f"a page does not say everything: give {options}", "or --dry-run, and complete what it prints")
    (wanted,) = choose(app.settings, name).wanted
    components = read(wanted.source)

    def lines_of(conn: Connection) -> tuple[list[Line], BadLines]:
        bad = BadLines(f"source {name}", of="component")
        return new_servers(surveyed(wanted.source, components, servers_by_tag(conn)), columns, bad), bad

    if dry_run:
        with app.database.read() as conn:
            lines, bad = lines_of(conn)
        bad.check()
        click.echo(_csv(lines), nl=False)
        return
    with progress(len(components), "servers") as advance:
        counts = app.database.transact(lambda conn: import_servers(conn, *lines_of(conn), advance))
    log.info("servers.imported", extra={"facts": counts._asdict()})


def _csv(lines: list[Line]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, servers.REQUIRED, lineterminator="\n")
    writer.writeheader()
    writer.writerows(line.cells for line in lines)
    return text.getvalue()
