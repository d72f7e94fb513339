"""run-helper: what the platform's crontab calls, in the words of the PHP plugin that it called before."""

from __future__ import annotations

from urllib.parse import parse_qsl

import click

from monitor_cli.cli.callback_run import run_callbacks
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.incident_sync import sync_all
from monitor_cli.errors import UsageError

_HELPERS = {"Callback": run_callbacks, "Incident": sync_all}


@click.command()
@click.argument("query")
@pass_app
def command(app: App, query: str) -> None:
    """Do what a PHP cron line did: helper=Callback is callback-run, helper=Incident is incident-sync.

    QUERY is helper=NAME&component=monitor, or the whole …/runHelper?helper=NAME&component=monitor; the component may
    be left out.

    \b
    Example:  monitor-cli run-helper 'helper=Callback&component=monitor'
    """
    _HELPERS[helper_of(query)](app)


def helper_of(query: str) -> str:
    """The helper that a query names: Callback or Incident. Raises UsageError (2)."""
    hint = "write helper=Callback&component=monitor or helper=Incident&component=monitor, in quotes"
    pairs = parse_qsl(query.rpartition("?")[2], keep_blank_values=True)
    fields = dict(pairs)
    if len(fields) != len(pairs) or set(fields) - {"helper", "component"} or "helper" not in fields:
        raise UsageError(f"{query!r} is no helper query", hint)
    if fields.get("component", "monitor") != "monitor":
        raise UsageError(f"unknown component {fields['component']!r}", hint)
    if fields["helper"] not in _HELPERS:
        raise UsageError(f"unknown helper {fields['helper']!r}", hint)
    return fields["helper"]
