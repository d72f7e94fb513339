"""incident-sync: from the sources into the database."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import click

from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.output import cell, print_rows
from monitor_cli.config import Settings, Source
from monitor_cli.errors import ConfigError, OutsideError, SourceError, UsageError
from monitor_cli.providers import AUTO, PROVIDERS
from monitor_cli.sources import LIMIT, File, is_url, shown
from monitor_cli.sync.reading import Wanted
from monitor_cli.sync.run import Change, Outcome, preview, synchronise

log = logging.getLogger(__name__)

_NAME_LENGTH = 100


@click.command()
@click.option("--source", "name", metavar="NAME", help="Read this one of the configured sources only.")
@click.option("--provider", type=click.Choice([AUTO, *PROVIDERS]), help="What kind of status page it is.")
@click.option("--url", help="Read this page, or this document.")
@click.option(
    "--file",
    "paths",
    metavar="PATH",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Read a document from a file (- is standard input); again for a page's second one.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@pass_app
def command(
    app: App, name: str | None, provider: str | None, url: str | None, paths: tuple[str, ...], dry_run: bool
) -> None:
    """Read the sources and bring each server's status up to date.

    A server is matched by its server_tag, which is the component's id at the source. What changed is flagged for
    callback-run. A source that fails changes nothing (exit code 75); the others are read all the same.

    \b
    Example:  monitor-cli incident-sync --url https://status.example.com --dry-run
    """
    if url is not None and paths:
        raise UsageError("--url and --file exclude each other")
    if paths.count("-") > 1:
        raise UsageError("--file - can be given once: standard input is one document")
    wanted, every = _wanted(app.settings, name, provider, url, paths)
    _finish(_preview(app, wanted, every) if dry_run else _run(app, wanted, every))


def sync_all(app: App) -> None:
    """What the command does without options; run-helper calls it too."""
    wanted, every = _wanted(app.settings)
    _finish(_run(app, wanted, every))


def _run(app: App, wanted: Sequence[Wanted], every: bool) -> Outcome:
    # What comes through a pipe has no identity that could be remembered until the next time.
    piped = any(file.name == _STDIN for one in wanted for file in one.files)
    outcome = synchronise(app.database, wanted, every_source=every, remember=not piped)
    if outcome.busy and sys.stderr.isatty():
        click.echo("another incident-sync is at work", err=True)
    for change in outcome.changes:
        log.info("server.changed", extra={"facts": _facts(change)})
    log.info("sync.done", extra={"facts": {"servers": outcome.rows, "written": outcome.written}})
    return outcome


def _preview(app: App, wanted: Sequence[Wanted], every: bool) -> Outcome:
    outcome = preview(app.database, wanted, every_source=every)
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
        "to": str(change.seen.type),
        "incident_status": change.seen.word,
        "source": change.seen.source,
    }


# --- which sources ----------------------------------------------------------------------------------------------------

_STDIN = "standard input"


def _wanted(
    settings: Settings,
    name: str | None = None,
    provider: str | None = None,
    url: str | None = None,
    paths: Sequence[str] = (),
) -> tuple[list[Wanted], bool]:
    """The sources to read, and whether these are all that there are. Raises UsageError (2), ConfigError (78)."""
    configured = list(settings.sources)
    if not configured and settings.incident_url:
        configured = [Source(name=_name_of(settings.incident_url), url=settings.incident_url)]
    files = [_file(path) for path in paths]
    if name is not None:
        chosen = [_named(name, configured)]
    elif files:
        chosen = [Source(name=files[0].name[:_NAME_LENGTH])]
    elif url is not None:
        chosen = [Source(name=_name_of(url))]
    else:
        chosen = configured
    if not chosen:
        raise ConfigError(
            "no source is configured",
            "give --url or MONITOR_INCIDENT_URL, or [[sources]] with name and url in the configuration file",
        )
    sources = [
        replace(source, provider=provider or source.provider, url=source.url if url is None else url)
        for source in chosen
    ]
    for source in sources:
        _judge(source, url is not None, bool(files))
    every = len(configured) <= len(sources)
    return [Wanted(source, files) for source in sources], every


def _named(name: str, configured: Sequence[Source]) -> Source:
    for source in configured:
        if source.name == name:
            return source
    names = [source.name for source in configured]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"configured: {', '.join(names) or 'none'}"
    raise UsageError(f"there is no source {name!r}", hint)


def _judge(source: Source, from_flag: bool, from_files: bool) -> None:
    """Raise what is wrong with a source before anything is read."""
    kind = UsageError if from_flag else ConfigError
    if len(source.name) > _NAME_LENGTH:
        raise ConfigError(f"the source {source.name!r} has a name of more than {_NAME_LENGTH} characters")
    if source.provider not in (AUTO, *PROVIDERS):
        near = difflib.get_close_matches(source.provider, [AUTO, *PROVIDERS], 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join([AUTO, *PROVIDERS])}"
        raise ConfigError(f"the source {source.name!r} has an unknown provider {source.provider!r}", hint)
    if not from_files and not is_url(source.url):
        raise kind(f"the URL of the source {source.name!r} is none: {shown(source.url)}", "write it as https://host/path")


def _name_of(url: str) -> str:
    """A name for a source that has none: where it is."""
    return shown(url).partition("://")[2].rstrip("/")[:_NAME_LENGTH] or url[:_NAME_LENGTH]


def _file(path: str) -> File:
    if path == "-":
        return File(_STDIN, _limited(sys.stdin.buffer, _STDIN))
    name = path.encode("utf-8", "replace").decode()
    try:
        with open(path, "rb") as file:
            return File(name, _limited(file, name))
    except OSError as error:
        raise UsageError(f"--file {name}: {error.strerror}") from None


def _limited(file: BinaryIO, name: str) -> bytes:
    body = file.read(LIMIT + 1)
    if len(body) > LIMIT:
        raise SourceError(f"{name}: the document is larger than {LIMIT // 2**20} MiB")
    return body
