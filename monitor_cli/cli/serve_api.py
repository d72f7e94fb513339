"""`monitor-cli serve-api`: the incident API over HTTP."""

from __future__ import annotations

import logging

import click
from click.core import ParameterSource

from monitor_cli import serve
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import WholeNumber
from monitor_cli.errors import DatabaseAway, UsageError

log = logging.getLogger(__name__)


@click.command("serve-api")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=WholeNumber(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--unix-socket", metavar="PATH", help="Listen on a unix socket instead, for a proxy on this host (mode 0660)."
)
@click.option(
    "--workers", type=WholeNumber(1, 64), default=None, help="Processes (default: one for each CPU, at most 8)."
)
@click.pass_context
@pass_app
def command(
    app: App, context: click.Context, host: str, port: int, unix_socket: str | None, workers: int | None
) -> None:
    """Serve the incident API to customers: GET /v1/?api_key=KEY&method=monitor&format=xml|json.

    Also /healthz, /readyz, /metrics and /openapi.json, which are for you alone: let a proxy in front pass /v1/ only.
    Too many requests of a key or an address are answered 429 (api_rate_per_key and others of docs/configuration.md);
    behind a proxy set trusted_proxies. One line a request goes to stderr, never with a key; -q leaves them out.

    SIGTERM finishes the requests in flight. A database that is away is answered 503 until it is back; SELECT on
    infi_voice_monitor, its _account, _subscription, _number and _version is all it needs.

    \b
    Example:  monitor-cli serve-api --host 127.0.0.1 --port 8080
              monitor-cli serve-api --unix-socket /run/monitor-cli/api.sock
    """
    if unix_socket is not None and _given(context, "host", "port"):
        raise UsageError("--unix-socket stands instead of --host and --port", "leave out one or the other")
    settings = app.settings
    try:
        app.database.close()
    except DatabaseAway as error:
        log.warning("api.database_lost", extra={"facts": {"reason": error.message}})
    count = workers or serve.default_workers()
    serve.run(
        settings,
        lambda address: _say(address, count),
        host=host,
        port=port,
        unix_socket=unix_socket,
        workers=count,
    )


def _given(context: click.Context, *names: str) -> bool:
    return any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in names)


def _say(address: str, workers: int) -> None:
    if log.isEnabledFor(logging.WARNING):  # not with -q
        click.echo(f"monitor-cli: serving {address} with {workers} worker{'s' * (workers > 1)}", err=True)
