"""Runs that others' tools look at: the option --textfile, and the settings for it and for the ping of a URL."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from monitor_cli import config
from monitor_cli.cli.context import App
from monitor_cli.db import Connection
from monitor_cli.errors import ConfigError, DatabaseAway, MonitorError, UsageError
from monitor_cli.telemetry.observer import Job, Observer

if TYPE_CHECKING:  # the library is loaded where there is a textfile
    from monitor_cli.telemetry.metrics import Metric

log = logging.getLogger(__name__)

textfile_option = click.option(
    "--textfile", metavar="PATH", type=click.Path(), help="Write metrics for Prometheus' textfile collector there."
)


def _sync_state(conn: Connection) -> Iterable[Metric]:
    from monitor_cli.telemetry import metrics

    return metrics.sync_state(conn)


def _callback_state(conn: Connection) -> Iterable[Metric]:
    from monitor_cli.telemetry import metrics

    return metrics.callback_state(conn)


INCIDENT_SYNC = Job("incident-sync", "monitor_cli_sync", _sync_state)
CALLBACK_RUN = Job("callback-run", "monitor_cli_callback_run", _callback_state)


@contextmanager
def observed(app: App, job: Job, textfile: str | None) -> Iterator[Observer]:
    """A run of a command: however it ends, that is told where somebody wants to know."""
    observer = Observer(job, _ping_url(app, job), textfile or getattr(app.settings, f"{job.setting}_textfile"))
    exit_code, answers = 1, True
    try:
        yield observer
        exit_code = 0
    except (click.UsageError, UsageError):  # somebody's typing error is no run
        observer.forget()
        raise
    except click.exceptions.Exit as stop:
        exit_code = stop.exit_code
        raise
    except MonitorError as error:
        exit_code, answers = error.exit_code, not isinstance(error, DatabaseAway)
        raise
    finally:
        observer.end(exit_code, app.opened if answers else None)


def _ping_url(app: App, job: Job) -> str:
    """A URL that cannot be had holds up no run."""
    try:
        return config.ping_url(app.settings, job.setting)
    except ConfigError as error:
        log.warning("ping.unusable", extra={"facts": {"reason": error.message}})
        return ""
