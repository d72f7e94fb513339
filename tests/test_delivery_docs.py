"""docs/delivery.md names the test that proves each guarantee: every one of them is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
TEXT = (TESTS.parent / "docs" / "delivery.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXT)))
ROWS = re.findall(r"^\| (?:\*\*|…).*\|$", TEXT, re.MULTILINE)


def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_named_test_exists(file: str, name: str) -> None:
    assert name in names_in(file)


def test_every_guarantee_names_a_test() -> None:
    assert len(ROWS) >= 15
    assert [row for row in ROWS if "::test_" not in row] == []
    assert len(NAMED) >= 40


def test_the_settings_that_it_names_are_settings() -> None:
    from monitor_cli import config

    table = TEXT.partition("## Settings")[2].partition("## Databases")[0]
    named = {
        name for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    }
    assert len(named) >= 7
    assert named <= {f.name for f in config.names()}
