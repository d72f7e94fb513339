"""number: which numbers an account has, and on which channel each is."""

from __future__ import annotations

import logging

import click

from monitor_cli import csvfile
from monitor_cli.cli.completing import complete_account
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import progress, read_file, reads
from monitor_cli.cli.output import confirm, json_option, print_rows, yes_option
from monitor_cli.store import numbers

log = logging.getLogger(__name__)


@click.group()
def command() -> None:
    """The numbers that accounts rent, each on one channel.

    \b
    Example:  monitor-cli number add acme --channel 7 +918012345678
    """


@command.command("add")
@click.argument("account", shell_complete=complete_account)
@click.option(
    "--channel",
    "channel_id",
    required=True,
    metavar="ID",
    callback=reads(numbers.read_channel),
    help="The channel that they are on.",
)
@click.argument("values", metavar="NUMBER...", nargs=-1, required=True, callback=reads(numbers.read_number))
@pass_app
def add(app: App, account: str, channel_id: int, values: tuple[str, ...]) -> None:
    """Put numbers of an account on a channel; those that it has already are moved there.

    \b
    Example:  monitor-cli number add acme --channel 7 +918012345678 +918012345679
    """
    app.database.transact(lambda conn: numbers.add(conn, account, channel_id, values))
    _warn_of_unserved(app, {channel_id})


@command.command("list")
@click.option("--account", metavar="NAME", shell_complete=complete_account, help="Of this account.")
@click.option("--channel", "channel_id", metavar="ID", callback=reads(numbers.read_channel), help="On this channel.")
@json_option
@pass_app
def list_(app: App, account: str | None, channel_id: int | None, as_json: bool) -> None:
    """List the numbers, all or those that the options name.

    \b
    Example:  monitor-cli number list --account acme
    """
    with app.database.read() as conn:
        rows = numbers.listed(conn, account, channel_id)
        print_rows((number._asdict() for number in rows), as_json, numbers.Number._fields, of="numbers")


@command.command("remove")
@click.argument("account", shell_complete=complete_account)
@click.argument("values", metavar="NUMBER...", nargs=-1, required=True)
@yes_option
@pass_app
def remove(app: App, account: str, values: tuple[str, ...], yes: bool) -> None:
    """Remove numbers of an account.

    \b
    Example:  monitor-cli number remove acme +918012345678 --yes
    """
    confirm(f"Remove {', '.join(values)} of {account}?", yes)
    app.database.transact(lambda conn: numbers.remove(conn, account, values))


@command.command("import")
@click.argument("file", type=click.Path(allow_dash=True))
@pass_app
def import_(app: App, file: str) -> None:
    """Add numbers from a CSV file (- is stdin), and move those that are on another channel: all of it or nothing.

    Its first line is account,channel_id,number; an account is named by its name.

    \b
    Example:  monitor-cli number import numbers.csv
    """
    data, name = read_file(file)
    lines, bad = csvfile.read(data, name, numbers.COLUMNS)
    with progress(len(lines), "numbers") as advance:
        counts = app.database.transact(lambda conn: numbers.import_numbers(conn, lines, bad, advance))
    log.info("numbers.imported", extra={"facts": counts._asdict()})
    _warn_of_unserved(app, {numbers.read_channel(line.cells["channel_id"]) for line in lines})


def _warn_of_unserved(app: App, channels: set[int]) -> None:
    with app.database.read() as conn:
        unserved = numbers.unserved(conn, channels)
    if unserved:
        named = ", ".join(map(str, unserved[:10])) + (", …" if len(unserved) > 10 else "")
        facts = {"channels": named, "count": len(unserved), "reason": "no server is on it: its numbers hear nothing"}
        log.warning("channel.no_server", extra={"facts": facts})
