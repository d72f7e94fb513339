"""docs/operations.md has a table of the log events: each that the code writes is in it, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor_cli.store.settling import Then

ROOT = Path(__file__).resolve().parent.parent
_LEVELS = {"debug": 0, "info": 0, "warning": 0, "error": 0, "exception": 0, "critical": 0, "log": 1}
_NAME = re.compile(r"[a-z]+(\.[a-z_]+)*")

# The log calls whose name is made, and what it can be. A Report's names stand where it is made.
_MADE = {"f'delivery.{settlement.then.value}'": {f"delivery.{then.value}" for then in Then}, "self.event": set[str]()}
_REPORTS = {"Report": slice(1, 2), "_reports": slice(1, 3)}


def events(text: str) -> Iterator[str]:
    """The names of the events that a module's text logs. Raises AssertionError for one that cannot be told."""
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        match call.func:
            case ast.Attribute(value=ast.Name(id="log"), attr=level) if level in _LEVELS:
                yield from _named(call.args[_LEVELS[level]])
            case ast.Name(id=function) if function in _REPORTS and "cli.report_output" not in text:  # another Report
                for argument in call.args[_REPORTS[function]]:
                    if not isinstance(argument, ast.Name):  # _reports hands its own names on
                        yield from _named(argument)


def _named(argument: ast.expr) -> set[str]:
    if isinstance(argument, ast.Constant):
        assert _NAME.fullmatch(argument.value), argument.value
        return {argument.value}
    made = ast.unparse(argument)
    assert made in _MADE, f"the event {made} has no name that a test can tell"
    return _MADE[made]


def test_the_table_has_every_event_once_and_no_other() -> None:
    section = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("## Log events")[2]
    told = re.findall(r"^\| `([a-z_.]+)` \| (?:debug|info|warning|error) \| \S", section, re.MULTILINE)
    logged = {name for file in (ROOT / "monitor_cli").rglob("*.py") for name in events(file.read_text("utf-8"))}
    assert len(logged) > 30
    assert sorted(told) == sorted(logged)


def test_events_are_found_wherever_they_are_logged() -> None:
    text = """
log.info("a.info", extra={})
def f():
    log.log(logging.WARNING if news else logging.INFO, "b.log")
    yield Report(logging.ERROR, "c.report", {})
    _reports(moved, "d.begins", "d.ends", {})
    log.info(f"delivery.{settlement.then.value}")
    other.info("no event")
"""
    deliveries = {f"delivery.{then.value}" for then in Then}
    assert set(events(text)) == {"a.info", "b.log", "c.report", "d.begins", "d.ends"} | deliveries


@pytest.mark.parametrize("text", ['log.info(f"a.{b}")', 'log.info("Not a name")', "log.warning(name)"])
def test_an_event_whose_name_is_not_stable_is_refused(text: str) -> None:
    with pytest.raises(AssertionError):
        list(events(text))
