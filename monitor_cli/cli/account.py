"""account: the customers, their API keys and their Health Check plugins."""

from __future__ import annotations

import secrets

import click

from monitor_cli.cli.completing import complete_account
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import reads
from monitor_cli.cli.output import confirm, json_option, print_record, print_rows, yes_option
from monitor_cli.store import accounts
from monitor_cli.words import many

key_option = click.option(
    "--api-key", callback=reads(accounts.read_key), metavar="KEY", help="Its API key (else one is made)."
)


@click.group()
def command() -> None:
    """The accounts: who has numbers, reads the incident API and has callbacks.

    \b
    Example:  monitor-cli account add acme
    """


@command.command("add")
@click.argument("name", callback=reads(accounts.read_name))
@key_option
@click.option("--unsubscribed", is_flag=True, help="Without the Health Check plugin: it is told nothing.")
@json_option
@pass_app
def add(app: App, name: str, api_key: str | None, unsubscribed: bool, as_json: bool) -> None:
    """Add an account and print its API key, this once: only a digest of it is kept.

    \b
    Example:  monitor-cli account add acme
    """
    key = api_key or _new_key()
    account_id = app.database.transact(lambda conn: accounts.add(conn, name, key, subscribed=not unsubscribed))
    print_record({"id": account_id, "name": name, "api_key": key}, as_json)


@command.command("list")
@json_option
@pass_app
def list_(app: App, as_json: bool) -> None:
    """List the accounts by name.

    \b
    Example:  monitor-cli account list --json
    """
    with app.database.read() as conn:
        print_rows((account._asdict() for account in accounts.listed(conn)), as_json, of="accounts")


@command.command("show")
@click.argument("name", shell_complete=complete_account)
@json_option
@pass_app
def show(app: App, name: str, as_json: bool) -> None:
    """Show an account.

    \b
    Example:  monitor-cli account show acme
    """
    with app.database.read() as conn:
        print_record(accounts.find(conn, name)._asdict(), as_json)


@command.command("remove")
@click.argument("name", shell_complete=complete_account)
@yes_option
@pass_app
def remove(app: App, name: str, yes: bool) -> None:
    """Remove an account with its numbers, its subscription, its callbacks and what they are owed.

    \b
    Example:  monitor-cli account remove acme --yes
    """
    with app.database.read() as conn:
        has = accounts.belongings(conn, name)
    confirm(f"Remove the account {name} with {many(has.numbers, 'number')} and {many(has.callbacks, 'callback')}?", yes)
    app.database.transact(lambda conn: accounts.remove(conn, name))


@command.command("subscribe")
@click.argument("name", shell_complete=complete_account)
@pass_app
def subscribe(app: App, name: str) -> None:
    """Subscribe an account's Health Check plugin; it is told what differs from what it was told last.

    \b
    Example:  monitor-cli account subscribe acme
    """
    app.database.transact(lambda conn: accounts.subscribe(conn, name))


@command.command("unsubscribe")
@click.argument("name", shell_complete=complete_account)
@pass_app
def unsubscribe(app: App, name: str) -> None:
    """Unsubscribe an account's Health Check plugin: it is told nothing until it subscribes again.

    \b
    Example:  monitor-cli account unsubscribe acme
    """
    app.database.transact(lambda conn: accounts.unsubscribe(conn, name))


@command.command("rotate-key")
@click.argument("name", shell_complete=complete_account)
@key_option
@json_option
@pass_app
def rotate_key(app: App, name: str, api_key: str | None, as_json: bool) -> None:
    """Give an account another API key and print it, this once. The old one is worth nothing from then on.

    \b
    Example:  monitor-cli account rotate-key acme
    """
    key = api_key or _new_key()
    account = app.database.transact(lambda conn: accounts.rotate_key(conn, name, key))
    print_record({"id": account.id, "name": account.name, "api_key": key}, as_json)


def _new_key() -> str:
    return secrets.token_urlsafe(32)
