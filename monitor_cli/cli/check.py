"""check: one line and an exit code for Nagios and its kin (0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN)."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from monitor_cli import config
from monitor_cli.cli.alarm import TimedOut, at_most
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import WholeNumber, reads
from monitor_cli.cli.output import json_option, print_json
from monitor_cli.engines import described
from monitor_cli.errors import MonitorError
from monitor_cli.health.checks import NAMES, examine
from monitor_cli.health.clocks import read_address
from monitor_cli.health.findings import Finding, Limit, Limits, Measure, State, plugin_line, worst_of
from monitor_cli.sync.chosen import configured

log = logging.getLogger(__name__)

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Span(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click only
    """How long: a number of seconds, or 90s, 5m, 2h, 7d."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", value)
        if not found:
            self.fail(f"{value!r} is no span: 90, 90s, 5m, 2h, 7d", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


_SPAN, _COUNT = Span(), WholeNumber(0)
_PAIRS: tuple[tuple[str, Any, Limit, str], ...] = (
    ("sync", _SPAN, Limits.sync, "a source was last read well so long ago"),
    ("owed", _SPAN, Limits.owed, "a change has waited so long for callback-run"),
    ("failing", _COUNT, Limits.failing, "so many callbacks fail"),
    ("off", _COUNT, Limits.off, "so many callbacks were switched off"),
    ("clock", _SPAN, Limits.clock, "clocks differ by so much"),
)


def _limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, kind, limit, what in reversed(_PAIRS):
        for level, value in (("critical", limit.critical), ("warning", limit.warning)):
            text = f"{level.upper()} where {what} (default {_default(kind, value)})."
            function = click.option(f"--{name}-{level}", type=kind, default=value, help=text)(function)
    return function


def _default(kind: Any, value: float) -> str:
    if not value:
        return "0: never"
    return f"{value / 60:g}m" if kind is _SPAN and value >= 60 else f"{value:g}{'s' if kind is _SPAN else ''}"


@click.command()
@_limit_options
@click.option(
    "--failing-for", type=_SPAN, default=Limits.failing_for, help="A callback fails once it has so long (default 15m)."
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="HOST[:PORT]",
    callback=reads(read_address),
    help="Compare this database server's clock too; may be repeated.",
)
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Make this check only; may be repeated.")
@click.option("--skip", multiple=True, type=click.Choice(NAMES), help="Leave this check out; may be repeated.")
@click.option("--timeout", type=_SPAN, default=30.0, help="CRITICAL where it takes longer (default 30s).")
@json_option
@pass_app
def command(
    app: App,
    /,
    nodes: tuple[str, ...],
    only: tuple[str, ...],
    skip: tuple[str, ...],
    timeout: float,
    as_json: bool,
    failing_for: float,
    **limits: float,
) -> None:
    """Check everything in the form of a Nagios plugin: one line with performance data, exit code 0 OK, 1 WARNING,
    2 CRITICAL, 3 UNKNOWN (it could not check: wrong usage, bad configuration).

    Sources read in time, unknown words and missing components, changes that wait to be told, failing and switched-off
    callbacks, the database and its revision, clocks. A limit of 0 never alarms. docs/operations.md has what each alarm
    means and what to do.

    \b
    Example:  monitor-cli check --sync-warning 5m --sync-critical 15m --skip clocks
    """
    config.check(app.settings)
    described(app.settings.database_url)
    names = [source.name for source in configured(app.settings)]
    chosen = [name for name in only or NAMES if name not in skip]
    if not chosen:
        raise click.UsageError("--skip leaves nothing to check")
    try:
        with at_most(timeout):
            found = examine(lambda: app.database, names, _limits(failing_for, limits), chosen=chosen, nodes=nodes)
    except TimedOut:
        found = [Finding("database", State.CRITICAL, f"no answer within {timeout:g} s")]
    except (MonitorError, click.UsageError):
        raise
    except Exception as error:  # a defect of ours must not look like a finding
        log.debug("traceback", exc_info=error)
        raise MonitorError(f"a defect: {type(error).__name__}: {error}") from error
    raise click.exceptions.Exit(_tell(found, as_json))


def _limits(failing_for: float, values: dict[str, float]) -> Limits:
    pairs: dict[str, Any] = {}
    for name, *_ in _PAIRS:
        warning, critical = values[f"{name}_warning"], values[f"{name}_critical"]
        if warning and critical and critical < warning:
            raise click.UsageError(f"--{name}-critical is below --{name}-warning")
        pairs[name] = Limit(warning, critical)
    return Limits(failing_for=failing_for, **pairs)


# --- what is printed --------------------------------------------------------------------------------------------------


def _tell(found: Sequence[Finding], as_json: bool) -> int:
    state = worst_of([one.state for one in found])
    bad = sorted((one for one in found if one.state is not State.OK), key=lambda one: one.state != state)
    words = "; ".join(one.message for one in bad or found)
    measures = [measure for one in found for measure in one.measures]
    if as_json:
        print_json(_record(state, words, measures, found))
    else:
        click.echo(plugin_line(state, words, measures))
    return state.value


def _record(
    state: State, words: str, measures: Sequence[Measure] = (), found: Sequence[Finding] = ()
) -> dict[str, Any]:
    return {
        "status": state.name,
        "exit_code": state.value,
        "message": words,
        "checks": [
            {"name": one.name, "status": one.state.name, "message": one.message, "details": one.details}
            for one in found
        ],
        "measures": [
            {
                "label": one.label,
                "value": one.value,
                "unit": one.unit or None,
                "warning": (one.limit.warning or None) if one.limit else None,
                "critical": (one.limit.critical or None) if one.limit else None,
            }
            for one in measures
        ],
    }


# --- where it could not check -----------------------------------------------------------------------------------------


def unknown(message: str, hint: str | None, args: Sequence[str]) -> int:
    """Say on stdout, where Nagios reads, why nothing could be checked; gives the exit code."""
    words = f"{message}{f' ({hint})' if hint else ''}"
    try:
        if "--json" in args:
            print_json(_record(State.UNKNOWN, words))
        else:
            click.echo(plugin_line(State.UNKNOWN, words))
        sys.stdout.flush()
    except OSError:
        pass  # nobody reads it; the exit code says it all the same
    return State.UNKNOWN.value
