"""callback-run: tell the customers."""

from __future__ import annotations

from dataclasses import replace

import click

from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import Decimal, WholeNumber
from monitor_cli.cli.output import say_on_terminal
from monitor_cli.delivery.fleet import run_fleet
from monitor_cli.delivery.preview import preview


@click.command()
@click.option("--max-seconds", type=Decimal(min=0), help="Work for so long at most (default 55).")
@click.option("--concurrency", type=WholeNumber(1, 4096), help="Requests in flight at once (default 256).")
@click.option("--dry-run", is_flag=True, help="Show whom it would tell what; send and write nothing.")
@click.option("--watch", is_flag=True, help="Stay, and work as changes come, until SIGTERM.")
@pass_app
def command(app: App, max_seconds: float | None, concurrency: int | None, dry_run: bool, watch: bool) -> None:
    """Tell each concerned callback what the status of its account's numbers is now, then end.

    A callback that does not answer 2xx is tried again, by this run or a later one. SIGTERM finishes what is in flight.

    \b
    Example:  monitor-cli callback-run --max-seconds 55
    """
    if watch and (max_seconds is not None or dry_run):
        raise click.UsageError("--watch goes with neither --max-seconds nor --dry-run")
    run_callbacks(app, max_seconds, concurrency, dry_run=dry_run, watch=watch)


def run_callbacks(
    app: App,
    max_seconds: float | None = None,
    concurrency: int | None = None,
    *,
    dry_run: bool = False,
    watch: bool = False,
) -> None:
    """What the command does; run-helper calls it too."""
    settings = app.settings
    if concurrency is not None:
        settings = replace(settings, concurrency=concurrency)
    if dry_run:
        lines = 0
        for line in preview(app.database, settings):
            click.echo(line)
            lines += 1
        if not lines:
            say_on_terminal("nothing is due")
        return
    run_fleet(app.database, settings, None if watch else settings.max_seconds if max_seconds is None else max_seconds)
