"""archive: what is older than the policy leaves the database, into files or for good; archive restore."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import click

from monitor_cli.archive import restore as restoring
from monitor_cli.archive import run as archiving
from monitor_cli.archive.lease import Busy
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import not_empty, progress, read_time, reads
from monitor_cli.cli.output import confirm, print_rows, yes_option
from monitor_cli.errors import OutsideError
from monitor_cli.schema import PREFIX
from monitor_cli.types import DAY_MS
from monitor_cli.words import iso

log = logging.getLogger(__name__)

_TABLE = ("table", "day", "rows", "file")


def _read_age(text: str) -> int:
    """Milliseconds since 1970 before which rows are older than that. Days and weeks are whole days in UTC, so that a
    day is one file; anything else is taken as it is."""
    before_at, now = read_time(text), int(time.time() * 1000)
    if before_at > now:
        raise ValueError(f"{text!r} lies in the future")
    return before_at - before_at % DAY_MS if text[-1:] in "dw" and before_at <= now - DAY_MS else before_at


@click.group(invoke_without_command=True)
@click.option(
    "--older-than",
    "before_at",
    metavar="TIME",
    callback=reads(_read_age),
    help="Older than: 90d, 12w (in whole UTC days), or a time. Default: the setting retention_days.",
)
@click.option(
    "--to",
    "directory",
    metavar="DIR",
    type=click.Path(),
    callback=reads(not_empty),
    help="Where the files go. Default: the setting archive_dir.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show how many rows of which day would go into which file; write nothing."
)
@click.option("--discard", is_flag=True, help="Write no files: delete the rows for good.")
@yes_option
@click.pass_context
def command(
    context: click.Context, before_at: int | None, directory: str | None, dry_run: bool, discard: bool, yes: bool
) -> None:
    """Move history, deliveries and attempts that are older than the policy out of the database, into files.

    The files are gzipped JSON Lines, one a day and table, with a SHA-256 beside each. A row is deleted only once a file
    on the disk has it; a run that was stopped is gone on with by the next. Nothing that is still owed, or needed to
    tell what is, ever leaves. With --discard there are no files.

    \b
    Example:  monitor-cli archive --older-than 90d --to /var/lib/monitor-cli/archive --dry-run
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if discard and directory is not None:
        raise click.UsageError("--discard writes no files: leave --to out")
    app = context.find_object(App)
    assert app is not None
    if before_at is None:
        before_at = _read_age(f"{app.settings.retention_days}d")
    target = None if discard else Path(directory or app.settings.archive_dir).expanduser()
    if dry_run:
        _preview(app, before_at, target)
        return
    if discard:
        confirm(f"Delete what is older than {iso(before_at)} for good, with no file of it?", yes)
    _archive(app, before_at, target)


@command.command("restore")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@pass_app
def restore(app: App, files: tuple[str, ...]) -> None:
    """Put the rows of an archive's files that are missing back into the database, with the ids that they had.

    A file that is not as it was written is refused, and so is one whose ids the database has for other rows. The next
    archive takes them out again, once they are older than its policy.

    \b
    Example:  monitor-cli archive restore /var/lib/monitor-cli/archive/delivery-2026-08-27.jsonl.gz
    """
    database = app.database
    for name in files:
        path = Path(name)
        total = restoring.count(path)
        try:
            with progress(total, path.name) as advance:
                done = restoring.restore(database, path, advance)
        except Busy as busy:
            raise OutsideError(
                f"{path}: {busy.message}; nothing more was restored", "try again when it is done"
            ) from None
        _say(f"{path}: {done.inserted} of {done.rows} rows are back, the others were there")


def _archive(app: App, before_at: int, target: Path | None) -> None:
    database = app.database
    try:
        done = archiving.archive(database, before_at, target, partial(progress, label="rows"))
    except Busy as busy:
        log.info("archive.busy", extra={"facts": {"reason": busy.message}})
        _say(busy.message)
        return
    log.info("archive.done", extra={"facts": {"rows": done.rows, "files": len(done.files)}})
    _say(f"{done.rows} rows {'are deleted' if target is None else f'have left the database, for {target}'}")


def _preview(app: App, before_at: int, target: Path | None) -> None:
    rows = (
        {
            "table": f"{PREFIX}{day.table}",
            "day": (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=day.starts_at)).date().isoformat(),
            "rows": day.rows,
            "file": None if file is None else str(file),
        }
        for day, file in archiving.plan(app.database, before_at, target)
    )
    print_rows(rows, False, _TABLE, of=f"rows that would go: none is older than {iso(before_at)}")


def _refuse_options(context: click.Context) -> None:
    given = [p.opts[0] for p in context.command.params if context.get_parameter_source(p.name or "") is _GIVEN]
    if given:
        raise click.UsageError(f"{given[0]} is not for {context.invoked_subcommand}")


_GIVEN = click.core.ParameterSource.COMMANDLINE


def _say(words: str) -> None:
    if sys.stderr.isatty():
        click.echo(words, err=True)
