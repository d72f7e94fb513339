"""incident-sync: from the sources into the database."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from monitor_cli.cli.chosen import STDIN, chosen, source_options
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.observed import INCIDENT_SYNC, observed, textfile_option
from monitor_cli.cli.output import cell, print_rows
from monitor_cli.errors import OutsideError
from monitor_cli.sync.chosen import Choice, choose
from monitor_cli.sync.judging import Change, Rules
from monitor_cli.sync.run import Outcome, preview, synchronise

if TYPE_CHECKING:  # the library is loaded where there is a textfile
    from monitor_cli.telemetry.metrics import Metric

log = logging.getLogger(__name__)


@click.command()
@source_options
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@textfile_option
@pass_app
def command(
    app: App,
    name: str | None,
    provider: str | None,
    url: str | None,
    paths: tuple[str, ...],
    dry_run: bool,
    textfile: str | None,
) -> None:
    """Read the sources and bring each server's status up to date.

    A server is matched by its server_tag, which is the component's id at the source. What changed is flagged for
    callback-run. A source that fails changes nothing (exit code 75); the others are read all the same.

    \b
    Example:  monitor-cli incident-sync --url https://status.example.com --dry-run
    """
    if textfile and dry_run:
        raise click.UsageError("--textfile does not go with --dry-run")
    if dry_run:
        _finish(_preview(app, chosen(app.settings, name, provider, url, paths)))
    else:
        _run_observed(app, textfile, lambda: chosen(app.settings, name, provider, url, paths))


def sync_all(app: App) -> None:
    """What the command does without options; run-helper calls it too."""
    _run_observed(app, None, lambda: choose(app.settings))


def _run_observed(app: App, textfile: str | None, choice: Callable[[], Choice]) -> None:
    with observed(app, INCIDENT_SYNC, textfile) as observer:
        wanted = choice()
        observer.begin()
        outcome = _run(app, wanted)

        def did() -> Iterable[Metric]:
            from monitor_cli.telemetry import metrics

            return metrics.sync_run(outcome.rows, outcome.written, outcome.busy)

        observer.did = did
        _finish(outcome)


def _run(app: App, choice: Choice) -> Outcome:
    # What comes through a pipe has no identity that could be remembered until the next time.
    piped = any(file.name == STDIN for one in choice.wanted for file in one.files)
    rules = Rules.of(app.settings)
    outcome = synchronise(app.database, choice.wanted, rules, every_source=choice.every_source, remember=not piped)
    if outcome.busy:
        log.info("sync.busy")
        if sys.stderr.isatty():
            click.echo("another incident-sync is at work", err=True)
        return outcome
    for change in outcome.changes:
        log.info("server.changed", extra={"facts": _facts(change)})
    log.info("sync.done", extra={"facts": {"servers": outcome.rows, "written": outcome.written}})
    return outcome


def _preview(app: App, choice: Choice) -> Outcome:
    outcome = preview(app.database, choice.wanted, Rules.of(app.settings), every_source=choice.every_source)
    print_rows([_facts(change) for change in outcome.changes], as_json=False)
    if not outcome.changes and sys.stderr.isatty():
        click.echo("nothing would change", err=True)
    return outcome


def _finish(outcome: Outcome) -> None:
    """Tell what there is to tell, and end with 75 where a source failed."""
    for report in outcome.reports:
        aloud = report.event == "source.failing" and sys.stderr.isatty()  # who looks on is told each time
        (report._replace(level=logging.ERROR) if aloud else report).tell()
    if outcome.failed:
        raise click.exceptions.Exit(OutsideError.exit_code)


def _facts(change: Change) -> dict[str, str | int]:
    row = change.row
    return {
        "id": row.id,
        "server_tag": row.server_tag,
        "name": cell(row.name),
        "from": cell(row.final_status),
        "to": cell(row.final_status) if change.to is None else change.to.word,
        "incident_status": cell(change.word),
        "source": change.source,
    }
