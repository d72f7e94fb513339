"""docs/reports.md has every option of every report, and its figures name what they were measured with."""

from __future__ import annotations

import re
from pathlib import Path

import click

from monitor_cli.cli.report import CELLS, command
from monitor_cli.reports import cards, pages, timeline, totals
from monitor_cli.store import past

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "reports.md").read_text("utf-8")


def test_every_option_is_told() -> None:
    assert set(command.commands) == {"availability", "incidents", "deliveries"}
    for name, report in command.commands.items():
        options = {option for p in report.params if isinstance(p, click.Option) for option in p.opts}
        told = set(re.findall(r"`(--[a-z]+)`", TEXT))
        assert options <= told, name


def test_the_limits_that_it_names_are_the_code_s() -> None:
    for words in (
        f"the last {cards.INCIDENTS} incidents",
        f"the {pages.SERVERS} least available",
        f"the {pages.CALLBACKS} that failed",
        f"in {CELLS} parts of the window",
        f"in blocks of {past.BLOCK // 1000} 000 rows",
    ):
        assert words in " ".join(TEXT.split())
    assert totals.REASONS == 8
    assert len(timeline.LEVELS) == 4


def test_the_figures_name_their_versions() -> None:
    figures = TEXT.partition("## Figures")[2]
    for word in ("Python 3", "MariaDB 1", "SQLite 3", "benchmarks/report.py", "MiB"):
        assert word in figures
