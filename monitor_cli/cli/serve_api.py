"""`monitor-cli serve-api`: the incident API over HTTP."""

from __future__ import annotations

import logging

import click

from monitor_cli import serve
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import WholeNumber
from monitor_cli.errors import DatabaseAway

log = logging.getLogger(__name__)


@click.command("serve-api")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=WholeNumber(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--workers", type=WholeNumber(1, 64), default=None, help="Processes (default: one for each CPU, at most 8)."
)
@pass_app
def command(app: App, host: str, port: int, workers: int | None) -> None:
    """Serve the incident API to customers: GET /v1/?api_key=KEY&method=monitor&format=xml|json.

    SIGTERM finishes the requests in flight. A database that is away is answered 503 until it is back; SELECT on
    infi_voice_monitor, its _account, _subscription, _number and _version is all it needs.

    \b
    Example:  monitor-cli serve-api --host 127.0.0.1 --port 8080
    """
    settings = app.settings
    try:
        app.database.close()
    except DatabaseAway as error:
        log.warning("api.database_lost", extra={"facts": {"reason": error.message}})
    count = workers or serve.default_workers()
    serve.run(settings, host, port, count, lambda address: _say(address, count))


def _say(address: str, workers: int) -> None:
    if log.isEnabledFor(logging.WARNING):  # not with -q
        click.echo(f"monitor-cli: serving {address}/v1/ with {workers} worker{'s' * (workers > 1)}", err=True)
