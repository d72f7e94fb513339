"""demo: the whole system played through, for people who look at it for the first time."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from pathlib import Path

import click

from monitor_cli.demo.play import play


@click.command()
def command() -> None:
    """Play an outage from a status page to customers, on this machine alone, in some seconds.

    The real commands run as they would from cron, on an embedded database, ./demo.db, which is made anew each time and
    stays for a look at it. A configuration of yours is left out of it.

    \b
    Example:  monitor-cli demo
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    scenes = iter(range(1, 100))
    database = Path("demo.db").absolute()
    click.echo(
        "An outage, from a status page to customers. $: a command that is run, >: a request that a customer got."
    )
    play(database, click.echo, lambda text: click.secho(f"\n{next(scenes)}. {text}", bold=True))
    click.secho("\nLook around", bold=True)
    click.echo(f"export MONITOR_DATABASE_URL={shlex.quote(f'sqlite:///{database}')}")
    for look in ("server list", "callback list", "account list"):
        click.echo(f"{_program()} {look}")
    click.echo(f"\nAll that is left of this: {database}")


def _program() -> str:
    """How the reader calls us: not every installation is on the PATH."""
    if shutil.which("monitor-cli"):
        return "monitor-cli"
    called = Path(sys.argv[0])
    return shlex.quote(sys.argv[0]) if called.name == "monitor-cli" else f"{shlex.quote(sys.executable)} -m monitor_cli"
