"""callback-run: tell the customers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import Decimal, WholeNumber
from monitor_cli.cli.observed import CALLBACK_RUN, observed, textfile_option
from monitor_cli.cli.output import cell, say_on_terminal
from monitor_cli.delivery.fleet import run_fleet
from monitor_cli.delivery.tally import Tally

if TYPE_CHECKING:  # the library is loaded where there is a textfile
    from monitor_cli.telemetry.metrics import Metric


@click.command()
@click.option("--max-seconds", type=Decimal(min=0), help="Work for so long at most (default 55).")
@click.option("--concurrency", type=WholeNumber(1, 4096), help="Requests in flight at once (default 256).")
@click.option("--dry-run", is_flag=True, help="Show whom it would tell what; send and write nothing.")
@click.option("--watch", is_flag=True, help="Stay, and work as changes come, until SIGTERM.")
@textfile_option
@pass_app
def command(
    app: App, max_seconds: float | None, concurrency: int | None, dry_run: bool, watch: bool, textfile: str | None
) -> None:
    """Tell each concerned callback what the status of its account's numbers is now, then end.

    A callback that does not answer 2xx is tried again, by this run or a later one. SIGTERM finishes what is in flight.

    \b
    Example:  monitor-cli callback-run --max-seconds 55
    """
    if watch and (max_seconds is not None or dry_run):
        raise click.UsageError("--watch goes with neither --max-seconds nor --dry-run")
    if textfile and dry_run:
        raise click.UsageError("--textfile does not go with --dry-run")
    run_callbacks(app, max_seconds, concurrency, dry_run=dry_run, watch=watch, textfile=textfile)


def run_callbacks(
    app: App,
    max_seconds: float | None = None,
    concurrency: int | None = None,
    *,
    dry_run: bool = False,
    watch: bool = False,
    textfile: str | None = None,
) -> None:
    """What the command does; run-helper calls it too."""
    settings = app.settings
    if concurrency is not None:
        settings = replace(settings, concurrency=concurrency)
    if dry_run:
        from monitor_cli.delivery.preview import preview  # cron does without

        lines = 0
        for line in preview(app.database, settings):
            click.echo(cell(line))
            lines += 1
        if not lines:
            say_on_terminal("nothing is due")
        return
    seconds = None if watch else settings.max_seconds if max_seconds is None else max_seconds
    with observed(app, CALLBACK_RUN, textfile) as observer:
        database = app.database

        def begun(tally: Tally) -> None:
            observer.did = lambda: _did(tally)
            observer.begin()
            if watch:
                observer.stay(database, tally.still_for)

        run_fleet(database, settings, seconds, begun)


def _did(tally: Tally) -> Iterable[Metric]:
    from monitor_cli.telemetry import metrics

    return metrics.callback_requests(tally.sums())
