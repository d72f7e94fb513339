"""docs/json.md keeps its word: what each command really prints with --json has the keys described, and no other."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.stores import Store
from tests.support.world import World
from tools.commandtree import described

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "json.md").read_text("utf-8")

SUMMARY = {
    "page": {"id": "p", "name": "Carrier", "url": "https://status.example.com"},
    "components": [
        {"id": "t4", "name": "Voice 4", "status": "major_outage"},
        {"id": "t9", "name": "Voice 9", "status": "never heard of"},
    ],
    "incidents": [
        {
            "id": "i1",
            "name": "Trunks down",
            "status": "investigating",
            "impact": "major",
            "shortlink": "https://status.example.com/i1",
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "components": [{"id": "t4", "name": "Voice 4"}],
            "incident_updates": [],
        }
    ],
}

# What is there when the commands below are run; {hook} is a customer's URL.
BEFORE = (
    "server add --server-id 9 --name voice-9 --server-tag nobody --channel-id 9 --region kerala --region-code KL-IN",
    "server add --server-id 4 --name voice-4 --server-tag t4 --channel-id 7 --region karnataka --region-code KA-IN",
    "account add acme",
    "number add acme --channel 7 +878788197367616",
    "callback add --account acme --title S --name n --url {hook}?x={{response}} --header 'X-Token: s3cret'",
    "incident-sync",
    "callback-run",
)

# Each command that has --json, as it is called; several calls where one does not show all keys.
CALLS = {
    "account add": ["account add other"],
    "account list": ["account list"],
    "account rotate-key": ["account rotate-key other"],
    "account show": ["account show acme"],
    "callback add": ["callback add --account acme --title T --name m --url {hook}?y={{response}}"],
    "callback encrypt-secrets": ["callback encrypt-secrets --dry-run"],
    "callback list": ["callback list"],
    "callback rotate-secret": ["callback rotate-secret 1"],
    "callback show": ["callback show 1"],
    "callback test": ["callback test 1"],
    "check": ["check --node 127.0.0.1:1"],
    "config show": ["config show"],
    "db current": ["db current"],
    "delivery list": ["delivery list"],
    "delivery show": ["delivery show 1"],
    "number list": ["number list"],
    "report availability": ["report availability"],
    "report deliveries": ["report deliveries"],
    "report incidents": ["report incidents"],
    "server add": ["server add --server-id 5 --name a --server-tag a --channel-id 5 --region r --region-code c"],
    "server list": ["server list"],
    "server show": ["server show 1"],
    "source check": ["source check"],
    "source list": ["source list"],
    "status": ["status"],
}


def sections() -> dict[str, dict[str, str]]:
    """The page's keys with what they mean, by command."""
    found: dict[str, dict[str, str]] = {}
    for title, text in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE):
        rows = dict(re.findall(r"^\| `([^`]+)` \| (\S.*) \|$", text, re.MULTILINE))
        found.update(dict.fromkeys(title.split(", "), rows))
    return found


def keys(value: Any, path: str = "") -> Iterator[str]:
    """The paths of a document: sources[].name for a key of the objects in a list; an empty object is a leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from keys(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from keys(inner, path + "[]")
    elif path:
        yield path


def _above(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0].removesuffix("[]")
        yield path


def pattern(key: str) -> re.Pattern[str]:
    """A described key; * stands for what is data itself, as a header's name."""
    return re.compile(re.escape(key).replace(r"\*", r"[^.\[\]]+"))


def with_json() -> list[str]:
    return [one.path for one in described() if any("--json" in option for option, _ in one.options)]


def test_every_command_with_json_is_described_and_called() -> None:
    found = sections()
    missing = [name for name in with_json() if name not in found or name not in CALLS]
    assert not missing, f"docs/json.md and this file's CALLS lack: {', '.join(missing)}"
    assert set(CALLS) == set(with_json())


def test_every_list_and_show_has_json() -> None:
    asked = {one.path for one in described() if one.path.rpartition(" ")[2] in ("list", "show")}
    assert asked <= set(with_json())


@pytest.fixture
def ask(
    cli: Cli,
    database: Store,
    receiver: Receiver,
    status_page: StatusPage,
    tmp_path: Path,
) -> Callable[[str], Any]:
    """ask("server list"): what it prints with --json. An outage is under way, and a customer has not answered well."""
    status_page.serve("/api/v2/summary.json", json.dumps(SUMMARY))
    receiver.answer("/hook", *[Answer(500, body=b"no")] * 9)
    file = tmp_path / "monitor.toml"
    file.write_text(f'[[sources]]\nname = "carrier"\nurl = "{status_page.url("/api/v2/summary.json")}"\n')
    env = {
        "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
        "MONITOR_CONFIG": str(file),
        "MONITOR_SECRET_KEY": "hcSRjsFSFERX9jRnQP0ocvkrSX5lyZFtTTxzeGHSOJA=",
    }

    def call(line: str, *more: str) -> Any:
        return cli(*shlex.split(line.format(hook=receiver.url("/hook"))), *more, env=env)

    for line in BEFORE:
        call(line).ok()
    World(database).flag(1, "warning")  # a change that no run has planned yet
    return lambda line: call(line, "--json").json


def test_each_command_prints_the_keys_described(ask: Callable[[str], Any], database: Store) -> None:
    wrong: list[str] = []
    told: dict[int, set[str]] = {}
    found = sections()
    for name, lines in CALLS.items():
        rows = found.get(name, {})
        for line in lines:
            answer = ask(line)
            assert isinstance(answer, list if name.endswith(" list") else dict), name
            printed = {path.removeprefix("[].") for path in keys(answer)}
            told.setdefault(id(rows), set()).update(printed)
            undescribed = [key for key in sorted(printed) if not any(pattern(row).fullmatch(key) for row in rows)]
            wrong += [f"{name}: {key} is not described" for key in undescribed]
    for name, rows in found.items():
        # A key whose value is an object, or null, is there where the object's keys are.
        printed = {part for key in told.get(id(rows), ()) for part in (key, *_above(key))}
        never = [row for row in rows if not any(pattern(row).fullmatch(key) for key in printed)]
        wrong += [f"{name}: {row} is described and was not printed" for row in never if not _absent(row, database)]
    assert not wrong, "\n".join(wrong)


def _absent(row: str, database: Store) -> bool:
    return database.name == "sqlite" and row.startswith("checks[].details.nodes[].")


def test_paths_of_a_document() -> None:
    document = {"a": 1, "b": [{"c": [1, 2], "d": {}}, {"e": {"X-Y": "z"}}], "f": []}
    assert sorted(keys(document)) == ["a", "b[].c", "b[].d", "b[].e.X-Y", "f"]
    assert list(keys([{"a": 1}])) == ["[].a"]
    assert pattern("b[].e.*").fullmatch("b[].e.X-Y")
    assert not pattern("*.value").fullmatch("a.b.value")
