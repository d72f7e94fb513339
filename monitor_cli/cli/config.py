"""config: what the settings are, where each comes from, and whether they can be used."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from monitor_cli import config
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.output import json_option, print_json, print_rows
from monitor_cli.config import Settings, Source
from monitor_cli.engines import described
from monitor_cli.errors import ConfigError
from monitor_cli.sources import shown
from monitor_cli.sync import chosen

log = logging.getLogger(__name__)

_HIDDEN = "***"
_NOT_SETTINGS = {"MONITOR_CONFIG", "MONITOR_TEST_MYSQL_URL"}  # read elsewhere: no typing errors


@click.group()
def command() -> None:
    """The settings: flag, else environment (MONITOR_*), else configuration file, else default.

    \b
    Example:  monitor-cli config show
    """


@command.command("show")
@json_option
@pass_app
def show(app: App, as_json: bool) -> None:
    """Show each setting, its value and where it came from. Passwords and the values of headers are not shown.

    \b
    Example:  monitor-cli --config monitor.toml config show --json
    """
    shown = {
        f.name: {
            "value": _value(f.name, f.metadata["secret"], app.settings),
            "origin": app.settings.origins[f.name],
            "description": f.metadata["help"],
        }
        for f in config.names()
    }
    if as_json:
        print_json(shown)
        return
    rows = ({"name": name, "value": _line(row["value"]), "origin": row["origin"]} for name, row in shown.items())
    print_rows(rows, as_json)


@command.command("check")
@pass_app
def check(app: App) -> None:
    """Read the settings as every command does: silent if they can be used, else exit 78 and everything that is wrong.

    \b
    Example:  monitor-cli --config monitor.toml config check
    """
    settings, faults = app.settings, config.Faults()
    with faults:
        described(settings.database_url)
    with faults:
        config.check(settings)
    with faults:
        chosen.check(settings)
    faults.tell()
    for name, near in _misspelt(os.environ).items():
        log.warning("setting.unknown", extra={"facts": {"environment": name, "did_you_mean": near}})


def _misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that are no setting's, but look like one's, with that one's name."""
    known = [config.env_name(f.name) for f in config.names() if f.name != "sources"]
    others = [name for name in environ if name.startswith("MONITOR_") and name not in {*known, *_NOT_SETTINGS}]
    return {name: near[0] for name in others if (near := difflib.get_close_matches(name, known, 1, 0.85))}


# --- values for people ------------------------------------------------------------------------------------------------


def _value(name: str, secret: bool, settings: Settings) -> Any:
    """A setting's value as JSON has it, with nothing secret in it."""
    value = getattr(settings, name)
    if name == "database_url":
        return _database(value)
    if secret:
        return _HIDDEN if value else value
    if name.endswith("_url"):
        return shown(value)
    if isinstance(value, tuple):
        return [_source(item) if isinstance(item, Source) else _plain(item) for item in value]
    return value


def _database(url: str) -> str:
    try:
        return described(url)
    except ConfigError:
        return _HIDDEN  # config check says what is wrong with it; it may hold a password where we do not see one


def _source(source: Source) -> dict[str, Any]:
    return {**asdict(source), "url": shown(source.url), "headers": dict.fromkeys(source.headers, _HIDDEN)}


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)


def _line(value: Any) -> str:
    """The same in a table: lists as the environment takes them, of a source what it is and where."""
    return ", ".join(map(_item, value)) if isinstance(value, list) else _item(value)


def _item(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item['name']} ({item['provider']}: {item['url']})"
    return f"{item:g}" if isinstance(item, float) else str(item)
