"""The metrics of a textfile: how the run went, and how the database stands after it. Names and units follow
https://prometheus.io/docs/practices/naming/; docs/operations.md lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client import Metric as Metric

from monitor_cli.db import Connection
from monitor_cli.store import backlog, overview, reports
from monitor_cli.telemetry.textfile import gauge, gauges
from monitor_cli.types import Type, word_of


class Ran(NamedTuple):
    """How a run went: when it ended (unix seconds), how long it took, its exit code, and when one ended well last."""

    at: float
    seconds: float
    exit_code: int
    last_success: float | None


def run(prefix: str, command: str, ran: Ran) -> Iterator[Metric]:
    """Of a run of any command; the names begin with `prefix`."""
    yield gauge(f"{prefix}_last_run_timestamp_seconds", f"When {command} ended last.", ran.at)
    if ran.last_success is not None:
        text = f"When {command} ended with exit code 0 last."
        yield gauge(f"{prefix}_last_success_timestamp_seconds", text, ran.last_success)
    yield gauge(f"{prefix}_duration_seconds", f"How long {command} took.", ran.seconds)
    yield gauge(f"{prefix}_exit_code", f"The exit code of {command}.", ran.exit_code)


def sync_run(servers: int, written: int, busy: bool) -> Iterator[Metric]:
    """What a run of incident-sync did."""
    yield gauge("monitor_cli_sync_servers", "Server rows that incident-sync read.", servers)
    yield gauge("monitor_cli_sync_servers_written", "Server rows that incident-sync changed.", written)
    yield gauge(
        "monitor_cli_sync_busy", "Whether another incident-sync was at work, so that this one did nothing.", busy
    )


def sync_state(conn: Connection) -> Iterator[Metric]:
    """What incident-sync left in the database."""
    states = reports.source_states(conn)
    up = ((name, float(state.failing_since is None)) for name, state in sorted(states.items()))
    yield gauges("monitor_cli_source_up", "Whether the source could be read last.", "source", up)
    good = (
        (name, state.last_good_at / 1000) for name, state in sorted(states.items()) if state.last_good_at is not None
    )
    text = "When the source was read well last."
    yield gauges("monitor_cli_source_last_good_timestamp_seconds", text, "source", good)
    types = {word_of(kind): 0 for kind in (*Type, None)}
    for one in overview.counts(conn):
        types[word_of(one.type)] += one.servers
    yield gauges("monitor_cli_servers", "Servers by type.", "type", ((kind, count) for kind, count in types.items()))
    lasting = [one.kind for one in backlog.conditions(conn)]
    yield gauge("monitor_cli_unknown_words", "Status words that are not known.", lasting.count("word"))
    yield gauge("monitor_cli_missing_components", "Server tags that no source has.", lasting.count("missing"))


def callback_requests(results: Mapping[str, int]) -> Iterator[Metric]:
    """What a run of callback-run did, by result (docs/operations.md)."""
    text = "Requests of the last callback-run (with --watch: since it began) by what came of them."
    values = ((result, float(count)) for result, count in results.items())
    yield gauges("monitor_cli_callback_run_requests", text, "result", values)


def callback_state(conn: Connection) -> Iterator[Metric]:
    """What callback-run left in the database."""
    waiting = backlog.waiting_for_us(conn)
    text = "For how long the oldest change waits for callback-run."
    yield gauge("monitor_cli_waiting_age_seconds", text, waiting.age_seconds)
    yield gauge("monitor_cli_changes_waiting", "Changed servers that are not planned yet.", waiting.changed_servers)
    yield gauge("monitor_cli_deliveries_due", "Deliveries that are due and not made.", waiting.deliveries)
    owed, kept = overview.owed_now(conn)
    yield gauge("monitor_cli_callbacks_owed", "Callbacks that are told and owed something.", owed.callbacks)
    yield gauge("monitor_cli_channels_owed", "Channels in regions that these are owed.", owed.units)
    yield gauge(
        "monitor_cli_callbacks_kept", "Callbacks that may not be told, and have something kept.", kept.callbacks
    )
    found = overview.callbacks(conn)
    by_status = (("active", found.active), ("inactive", found.inactive), ("off", found.off))
    yield gauges("monitor_cli_callbacks", "Callbacks by status.", "status", by_status)
    yield gauge("monitor_cli_callbacks_failing", "Active callbacks whose last request failed.", found.failing)
