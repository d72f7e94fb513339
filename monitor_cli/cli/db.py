"""db upgrade, downgrade, current, check: the tables of the database."""

from __future__ import annotations

import click

from monitor_cli import migrate
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.output import confirm, json_option, print_record, yes_option
from monitor_cli.db import NEWER_HINT
from monitor_cli.errors import ConfigError


@click.group("db")
def command() -> None:
    """Create, adopt, check or drop monitor-cli's tables.

    \b
    Example:  monitor-cli db upgrade
    """


@command.command()
@pass_app
def upgrade(app: App) -> None:
    """Create the tables, adopt a platform's infi_voice_monitor, mend what a killed run left.

    Rows are kept, columns never changed. What does not fit is listed, and then nothing is changed (exit 78). May be
    run at any time and as often as one likes.

    \b
    Example:  MONITOR_DATABASE_URL=mysql+pymysql://user:password@host/voice monitor-cli db upgrade
    """
    migrate.upgrade(app.settings.database_url, click.echo)


@command.command()
@yes_option
@pass_app
def downgrade(app: App, yes: bool) -> None:
    """Drop the tables and indexes that monitor-cli made; callbacks, history and what is owed go with them.

    infi_voice_monitor, views, and tables that the platform made stay.

    \b
    Example:  monitor-cli db downgrade --yes
    """
    confirm("Drop monitor-cli's tables, with all callbacks, accounts and history?", yes)
    migrate.downgrade(app.settings.database_url, click.echo)


@command.command()
@json_option
@pass_app
def current(app: App, as_json: bool) -> None:
    """Show the database's revision, and the one that this version needs.

    \b
    Example:  monitor-cli db current --json
    """
    print_record(migrate.current(app.settings.database_url).record(), as_json)


@command.command()
@click.option("--api", is_flag=True, help="As the incident API's user, who only reads, and not all.")
@pass_app
def check(app: App, api: bool) -> None:
    """Check that tables, columns, indexes, views and privileges are as needed: silent if so, else exit 78 and a list.

    Run it as the cron jobs' user: what they write is tried, without effect.

    \b
    Example:  monitor-cli db check && monitor-cli callback-run
    """
    found = migrate.check(app.settings.database_url, api=api)
    if problems := [problem for kind in found for problem in kind]:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(f"the database does not fit:\n{listed}", _hint(found, api))


def _hint(found: migrate.Findings, api: bool) -> str:
    """How each kind of what was found is mended."""
    whose = "" if api else " (is this the incident API's user? db check --api)"
    ways = [
        (found.newer, NEWER_HINT),
        (found.by_hand, "tables and views of the wrong shape are mended by hand: docs/database.md"),
        (found.upgrade, "run: monitor-cli db upgrade"),
        (found.refused, f"GRANT this user what docs/database.md lists under Privileges{whose}"),
    ]
    return "\n  ".join(words for problems, words in ways if problems)
