"""The house's order (docs/architecture.md) holds: a module imports only from rooms above its own, libraries only where
the table names them, and no two modules import each other."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "monitor_cli"
_ROW = re.compile(r"^\| `([a-z_]+)/?` \|[^|]*\|([^|]*)\|$", re.MULTILINE)


class Room(NamedTuple):
    """A line of the table: how far down it stands, and which libraries it may import."""

    order: int
    libraries: frozenset[str]


def table(text: str) -> dict[str, Room]:
    """The rooms of docs/architecture.md, by name."""
    rooms: dict[str, Room] = {}
    for order, (name, libraries) in enumerate(_ROW.findall(text)):
        rooms[name] = Room(order, frozenset(re.findall(r"\w+", libraries.lower())))
    return rooms


def sources() -> dict[str, str]:
    """Every module of the package with its text, the migrations (alembic/) as monitor_cli.migrations."""
    found = {}
    for base, prefix in ((ROOT / PACKAGE, PACKAGE), (ROOT / "alembic", f"{PACKAGE}.migrations")):
        for file in sorted(base.rglob("*.py")):
            parts = file.relative_to(base).with_suffix("").parts
            name = ".".join([prefix, *(part for part in parts if part != "__init__")])
            found[name] = file.read_text("utf-8")
    return found


def room_of(module: str) -> str:
    """The room that a module is in. The migrations are migrate's; __main__ only calls cli; the package itself is no
    room (everybody may read its version)."""
    parts = module.split(".")
    return {"migrations": "migrate", "__main__": "cli"}.get(parts[1], parts[1]) if len(parts) > 1 else ""


def imports(module: str, text: str, modules: dict[str, str]) -> Iterator[str]:
    """What a module imports, wherever in its text: full names, a submodule where one is meant."""
    is_package = any(name.startswith(module + ".") for name in modules)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = parts[: len(parts) - node.level + is_package]
                base = ".".join([*up, base] if base else up)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in modules else base


def faults(modules: dict[str, str], rooms: dict[str, Room]) -> list[str]:
    """Everything that breaks the table, a line each."""
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, text in modules.items():
        own = room_of(module)
        if own and own not in rooms:
            found.append(f"{module} is in no room of docs/architecture.md")
            continue
        for target in sorted(set(imports(module, text, modules))):
            if target.split(".")[0] == PACKAGE:
                graph.setdefault(module, set()).add(target)
                found += _direction(module, own, target, rooms)
            else:
                found += _library(module, own, target, rooms)
    return found + [f"a cycle: {' -> '.join(cycle)}" for cycle in cycles(graph)]


def _direction(module: str, own: str, target: str, rooms: dict[str, Room]) -> list[str]:
    other = room_of(target)
    if not other or own == other:
        return []
    if not own:
        return [f"{module} imports {target}: the package itself must stay empty"]
    if other not in rooms:
        return [f"{module} imports {target}, which is in no room"]
    if rooms[other].order > rooms[own].order:
        return [f"{module} imports {target}, which stands below it"]
    return []


def _library(module: str, own: str, target: str, rooms: dict[str, Room]) -> list[str]:
    library = target.split(".")[0]
    if library in sys.stdlib_module_names or (own and library.lower() in rooms[own].libraries):
        return []
    return [f"{module} imports {library}, which the table gives to other rooms"]


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Each cycle of modules once, by the first way it was found."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def test_every_import_follows_the_table() -> None:
    rooms = table((ROOT / "docs" / "architecture.md").read_text("utf-8"))
    modules = sources()
    assert len(rooms) > 10
    assert f"{PACKAGE}.cli" in modules
    found = faults(modules, rooms)
    assert not found, "\n".join(found)


_TABLE = """
| room | what is in it | may also import |
|---|---|---|
| `errors` | kinds | |
| `db` | engine | SQLAlchemy |
| `store/` | SQL | SQLAlchemy |
| `cli/` | commands | click |
"""


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        (
            "db",
            "from monitor_cli.store import rows",
            "monitor_cli.db imports monitor_cli.store.rows, which stands below it",
        ),
        ("db", "def f():\n    import monitor_cli.cli", "monitor_cli.db imports monitor_cli.cli, which stands below it"),
        (
            "store.rows",
            "from ..cli import run",
            "monitor_cli.store.rows imports monitor_cli.cli, which stands below it",
        ),
        ("db", "import click.testing", "monitor_cli.db imports click, which the table gives to other rooms"),
        (
            "cli",
            "from sqlalchemy import text",
            "monitor_cli.cli imports sqlalchemy, which the table gives to other rooms",
        ),
        ("attic", "", "monitor_cli.attic is in no room of docs/architecture.md"),
        ("__main__", "import requests", "monitor_cli.__main__ imports requests, which the table gives to other rooms"),
    ],
)
def test_a_fault_is_seen(module: str, text: str, fault: str) -> None:
    house = {
        "monitor_cli": "",
        **{f"monitor_cli.{name}": "" for name in ("errors", "db", "store", "store.rows", "cli")},
    }
    assert faults(house, table(_TABLE)) == []
    assert faults({**house, f"monitor_cli.{module}": text}, table(_TABLE)) == [fault]


def test_a_cycle_inside_a_room_is_seen() -> None:
    house = {
        "monitor_cli.store": "",
        "monitor_cli.store.a": "from monitor_cli.store import b",
        "monitor_cli.store.b": "from .a import x",
    }
    cycle = "a cycle: monitor_cli.store.a -> monitor_cli.store.b -> monitor_cli.store.a"
    assert faults(house, table(_TABLE)) == [cycle]


def test_what_is_allowed_is_no_fault() -> None:
    house = {
        "monitor_cli": "__version__ = '1'",
        "monitor_cli.__main__": "from monitor_cli.cli import main",
        "monitor_cli.errors": "import json",
        "monitor_cli.db": "import sqlalchemy.exc\nfrom monitor_cli import errors",
        "monitor_cli.store": "",
        "monitor_cli.store.a": "from . import b\nfrom monitor_cli.db import Database",
        "monitor_cli.store.b": "from sqlalchemy import text",
        "monitor_cli.cli": "import click\nfrom monitor_cli import __version__\nfrom monitor_cli.store import a",
    }
    assert faults(house, table(_TABLE)) == []
