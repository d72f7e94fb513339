"""docs/upgrading.md is run as it stands, on a MariaDB database as the PHP plugin left it: from the plugin's table to
the first cron runs and back, with a status page and customers that listen. Nothing is lost, and nobody is told what is
not so."""

from __future__ import annotations

import getpass
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy.engine import make_url

from monitor_cli import schema
from tests.support import network_guard
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.mariadb import MariaDB
from tests.support.readme import commands, environment, run
from tests.support.stores import Store
from tests.support.world import World
from tests.test_migrate_adoption import MONITOR, PHP_TABLE, bytes_of, created_as, shapes
from tests.test_migrate_views import COLUMNS, GRANTS, TABLES, USERS, VIEWS
from tests.test_run_helper import EXAMPLE, PHP, jobs

DOCS = Path(__file__).resolve().parent.parent / "docs"
TEXT = (DOCS / "upgrading.md").read_text("utf-8")

# One channel each, 1 to 9; on 2 a second server. What the plugin had not told is flagged.
ROWS = f"""
INSERT INTO {MONITOR} VALUES
 (1, 1, 'falls now', 'c1', 1, 100, 20, NULL, 'karnataka', 'KA-IN', 'operational', 'Operational', 0, NULL, 1, 1, NULL),
 (2, 2, 'flagged', 'c2', 2, 0, 0, '', 'karnataka', 'KA-IN', 'Major Outage', 'CRITICAL', 1, NULL, NULL, NULL, 'x'),
 (3, 3, 'its backup', 'c2b', 2, 0, 0, 'flagged', 'karnataka', 'KA-IN', 'operational', 'operational', 0, '', 1, 1, ''),
 (4, 4, 'known', 'c3', 3, 10, 11, NULL, 'Zürich', 'ka-in', 'partial_outage', 'WARNING', 0, '{{"a": 1}}', 0, 5, ''),
 (5, 5, NULL, 'gone from the page', 4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'x'),
 (6, 6, 'दिल्ली', 'c5', 5, 0, 0, NULL, '', ' KA', 'degraded', 'degraded', 0, NULL, -1, 9999999999, 'q'),
 (7, 7, 'never judged', 'c6', 6, 0, 0, NULL, 'goa', 'GA-IN', NULL, NULL, NULL, NULL, 0, 0, NULL),
 (8, 8, 'came back', 'c7', 7, 0, 0, NULL, 'goa', 'GA-IN', 'operational', 'operational', 1, NULL, 0, 0, NULL),
 (9, 9, 'quiet', 'tag-é', 8, 0, 0, NULL, 'goa', 'GA-IN', 'operational', 'operational', 0, NULL, 0, 0, NULL),
 (400, -3, 'odd', 'c9', 4294967295, 0, 0, NULL, 'goa', 'GA-IN', 'down!', 'nonsense', 1, NULL, 0, 0, NULL)
"""
WORDS = {
    "c1": "major_outage",
    "c2": "major_outage",
    "c2b": "operational",
    "c3": "partial_outage",
    "c5": "partial_outage",
    "c6": "operational",
    "c7": "operational",
    "tag-é": "operational",
}
# What acme has to hear, each once: by number, for a channel has one.
DUE = {
    "+91001": "critical",  # it changed at the first sync
    "+91002": "critical",  # the plugin had flagged it, and not told it
    "+91005": "warning",  # the plugin had a word that is no type: never told
    "+91007": "operational",  # flagged: the end of something that acme was told of
}


class Upgrade(NamedTuple):
    """A platform that has the plugin, and who follows the page on it."""

    store: Store
    mariadb: MariaDB
    page: str
    home: Path
    env: dict[str, str]
    receiver: Receiver
    status_page: StatusPage
    own: Callable[[str], str]

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        return self.mariadb.execute(*statements, database=make_url(self.store.url).database)

    def follow(self, title: str, *languages: str, first: int = 0, last: int | None = None) -> str:
        """Do what the blocks of a section say, all of these languages or the first to last of them."""
        section = next(part for part in re.split(r"^## ", self.page, flags=re.MULTILINE) if part.startswith(title))
        blocks = re.finditer(r"(?:^<!-- not run.*\n)?^```(console|sql)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        found = [block for block in blocks if block[1] in languages][first:last]
        said = ""
        for block in found:
            if block[1] == "sql":
                self.sql(*(part.strip().rstrip(";") for part in block[2].split(";\n") if part.strip()))
            elif typed := [command for command in commands(block[0]) if command.not_run is None]:
                said += run(typed, self.home, self.env, keep_ports=True)
        return said

    def cron(self, *lines: str, mail: str = "") -> None:
        """Run lines of a crontab as cron does; nothing is to be mailed but this."""
        for line in lines:
            done = subprocess.run(
                ["/bin/sh", "-c", line],
                env={**self.env, "HOME": str(self.home)},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", mail), line

    def told(self, path: str = "/voice") -> list[tuple[str, str]]:
        """Number and type of all that a customer got, as it came."""
        bodies = [dict(request.form)["data"] for request in self.receiver.requests if request.path == path]
        listed = [entry for body in bodies for entry in json.loads(body)["data"]["incidents"]]
        return [(number, entry["type"]) for entry in listed for number in entry["numbers"]]

    def serve(self, **words: str) -> None:
        named = {**WORDS, **words}
        self.status_page.serve(
            "/api/v2/summary.json",
            {"page": {"id": "p"}, "components": [{"id": k, "name": k, "status": word} for k, word in named.items()]},
        )


@pytest.fixture
def upgrade(
    mariadb: MariaDB,
    make_cli: Callable[[str | None], Cli],
    receiver: Receiver,
    status_page: StatusPage,
    tmp_path: Path,
) -> Iterator[Upgrade]:
    store = Store("mariadb", mariadb.create_database())
    name = str(make_url(store.url).database)

    def own(text: str) -> str:
        """On this database and address, with users of this test's own."""
        named = text.replace("voice.", f"`{name}`.").replace("'localhost'", "'127.0.0.1'")
        return re.sub(r"'monitor_(\w+)'@", rf"'{name}_\1'@", named)

    places = {
        "/etc/monitor-cli": str(tmp_path / "etc"),
        "monitor:": f"{getpass.getuser()}:",
        "@localhost/voice": f"@127.0.0.1:{mariadb.port}/{name}",
        "://monitor_": f"://{name}_",
        "'voice'": f"'{name}'",
        "https://status.example.com": status_page.url("/"),
        "https://acme.example/voice": receiver.url("/voice"),
    }
    page = own(TEXT)
    for there, here in places.items():
        assert there in page, f"docs/upgrading.md says {there} no more"
        page = page.replace(there, here)
    base = make_cli(None).environment()
    del base["HOME"]
    env = {
        **environment(tmp_path, base),
        **network_guard.child_environment(str(tmp_path / ".violations")),
        "MONITOR_CONFIG": str(tmp_path / "etc" / "config.toml"),
        "MONITOR_ALLOW_NETWORKS": "127.0.0.1",
        "MONITOR_MAX_SECONDS": "2",
    }
    found = Upgrade(store, mariadb, page, tmp_path, env, receiver, status_page, own)
    found.serve()
    found.sql(PHP_TABLE.replace("ENGINE=InnoDB", "ENGINE=MyISAM"), ROWS)
    yield found
    store.close()
    mariadb.drop_database(store.url)
    assert not (tmp_path / ".violations").exists(), (tmp_path / ".violations").read_text()


def give_customers(upgrade: Upgrade) -> None:
    """A platform's own tables, with the views of docs/database.md: acme with a number on each channel, and one whose
    plugin is not active."""
    upgrade.sql(*TABLES, *COLUMNS, *VIEWS)
    numbers = [(1, f"+9100{channel}", channel) for channel in range(1, 9)]
    numbers += [(1, "+91009", 4294967295 % 2**31), (2, "+92002", 2)]
    upgrade.sql(
        "INSERT INTO users (id, login, api_key) VALUES (1, 'acme', 'key-a'), (2, 'idle', 'key-b')",
        "INSERT INTO user_plugins VALUES (1, 'health-check', 'active'), (2, 'health-check', 'inactive')",
        f"INSERT INTO rented_numbers (user_id, msisdn, channel) VALUES {', '.join(map(str, numbers))}",
    )


def flags(upgrade: Upgrade) -> list[int]:
    return [int(str(row[0])) for row in upgrade.sql(f"SELECT id FROM {MONITOR} WHERE status_report = 1 ORDER BY id")]


def test_the_page_from_the_plugin_to_the_first_runs_and_back(upgrade: Upgrade) -> None:
    # As it is left, it is refused: MyISAM. The page says what to do.
    refused = subprocess.run(
        ["monitor-cli", "db", "upgrade"],
        env={**upgrade.env, "HOME": str(upgrade.home), "MONITOR_CONFIG": "", "MONITOR_DATABASE_URL": upgrade.store.url},
        capture_output=True,
        text=True,
    )
    assert (refused.returncode, refused.stdout) == (78, "")
    upgrade.follow("1.", "sql", last=2)
    statement, rows = created_as(upgrade.store), bytes_of(upgrade.store)
    upgrade.follow("1.", "sql", first=2)  # this platform wants no news of what was never judged, and is well
    changed = [key for key, row in enumerate(rows) if row != bytes_of(upgrade.store)[key]]
    assert changed == [4, 6]
    rows = bytes_of(upgrade.store)

    upgrade.follow("2.", "console")
    assert (upgrade.home / "etc" / "database-url").stat().st_mode & 0o777 == 0o600
    upgrade.mariadb.execute(*map(upgrade.own, USERS))
    give_customers(upgrade)
    said = upgrade.follow("3.", "console", last=1)
    assert f"adopted {MONITOR} (10 rows)" in said
    assert "left infi_voice_monitor_account as it is (a view)" in said
    upgrade.mariadb.execute(*map(upgrade.own, GRANTS))
    said = upgrade.follow("3.", "console", first=1)
    assert "acme" in said
    assert "gone from the page" in said
    upgrade.follow("4.", "console")
    idle = upgrade.page.replace("--account acme", "--account idle").replace("/voice'", "/idle'")
    upgrade._replace(page=idle).follow("4.", "console")

    # Until here, and by the dry runs, nothing of the plugin's has changed, and nobody was told anything.
    said = upgrade.follow("5.", "console")
    assert re.search(r"c1 .*Operational +critical", said), said
    assert "+91002" in said or "acme" in said
    assert bytes_of(upgrade.store) == rows
    assert flags(upgrade) == [2, 8, 400]
    assert upgrade.receiver.requests == []

    # The first minutes of cron.
    (block,) = re.findall(r"^```crontab\n(.*?)^```$", upgrade.page, re.MULTILINE | re.DOTALL)
    assert jobs(block) == jobs(EXAMPLE)
    assert re.findall(r"^#\* \* \* \* \* (.*)$", block, re.MULTILINE) == PHP
    tell, sync = jobs(block)
    upgrade.cron(tell)
    upgrade.cron(sync, mail='component.missing source=carrier components="c9, gone from the page"\n')
    upgrade.cron(tell, sync, tell)
    assert sorted(upgrade.told()) == sorted(DUE.items())
    assert upgrade.told("/idle") == []
    assert flags(upgrade) == []
    world = World(upgrade.store)
    assert world.owed() == []
    kept = {row[0]: row for row in upgrade.sql(f"SELECT id, final_status, note FROM {MONITOR}")}
    assert kept[4][1:] == ("WARNING", "")  # what was right already is as it was
    assert kept[400][1:] == ("nonsense", None)
    # Nothing more is told while nothing changes, and what changes is told once.
    upgrade.cron(sync, tell)
    assert len(upgrade.told()) == len(DUE)
    upgrade.serve(c1="operational")
    upgrade.cron(sync, tell, sync, tell)
    assert upgrade.told()[len(DUE) :] == [("+91001", "operational")]
    said = upgrade.follow("6.", "console")
    assert "carrier" in said

    back_again(upgrade, world, tell, sync)
    assert shapes(upgrade.store).keys() >= {MONITOR, "infi_voice_monitor_account"}
    assert not any(name in shapes(upgrade.store) for name in (schema.owed.name, schema.VERSION_TABLE))
    assert created_as(upgrade.store) == statement
    assert "acme" in (upgrade.home / "callbacks.json").read_text()
    assert "a-token-of-acme" not in (upgrade.home / "callbacks.json").read_text()


# Every column but the id may be NULL, as a platform's own programs may have left them.
LOOSE = {
    "server_id": "smallint",
    "name": "varchar(100)",
    "server_tag": "varchar(30)",
    "channel_id": "int",
    "capacity": "int",
    "used": "int",
    "primary_server": "varchar(100)",
    "region": "varchar(100)",
    "region_code": "varchar(100)",
    "incident_status": "varchar(50)",
    "final_status": "varchar(50)",
    "status_report": "tinyint",
    "meta": "text",
    "created": "int",
    "modified": "int",
}


def test_no_command_stumbles_over_NULL(
    mariadb: MariaDB, make_cli: Callable[[str | None], Cli], status_page: StatusPage, receiver: Receiver
) -> None:
    """A row for each column with NULL in it and a row that is nothing but NULL, of servers in trouble, well and flagged
    too: whatever an engineer looks with, looks."""
    url = mariadb.create_database()
    name = make_url(url).database
    loose = ", ".join(f"{column} {kind}" for column, kind in LOOSE.items())
    mariadb.execute(f"CREATE TABLE {MONITOR} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, {loose})", database=name)
    for kind, flag in (("critical", 0), ("operational", 0), ("warning", 1)):
        full = [4, "n", f"c-{kind}", 7, 10, 1, "p", "goa", "GA-IN", kind, kind, flag, "{}", 1, 1]
        rows = [[None if column == key else value for key, value in enumerate(full)] for column in range(len(full))]
        values = ", ".join(f"({', '.join(map(_sql, row))})" for row in [*rows, [None] * len(full)])
        mariadb.execute(f"INSERT INTO {MONITOR} ({', '.join(LOOSE)}) VALUES {values}", database=name)
    cli = make_cli(url)
    cli.ok("db", "upgrade")
    world = World(Store("mariadb", url))
    world.number(account := world.account("acme"), "+1", channel=7)
    world.callback(account, receiver.url("/hook"), payload="data={response}")
    components = [{"id": f"c-{kind}", "name": "n", "status": "major_outage"} for kind in ("operational", "warning")]
    status_page.serve("/api/v2/summary.json", {"page": {"id": "p"}, "components": components})
    env = {"MONITOR_INCIDENT_URL": status_page.url("/"), "MONITOR_ALLOW_NETWORKS": "127.0.0.1"}
    looks = [["status"], ["status", "--all"], ["status", "--json", "--all"], ["server", "list", "--json"]]
    looks += [["server", "show", "4"], ["server", "export"], ["report", "availability"], ["archive", "--dry-run"]]
    looks += [["incident-sync", "--dry-run"], ["source", "check"]]
    for command in looks:
        result = cli("-vv", *command, env=env)
        assert result.code == 0, f"{command}\n{result.err[-2500:]}"
        if command == ["status", "--json", "--all"]:
            assert result.json["servers_total"] == 3 * (len(LOOSE) + 1)
            nowhere = [one for one in result.json["servers"] if one["channel_id"] is None]
            assert len(nowhere) == 6
            assert {(one["numbers"], one["accounts"]) for one in nowhere} == {(0, 0)}
    for command in (["callback-run", "--dry-run"], ["incident-sync"], ["callback-run", "--max-seconds", "2"]):
        result = cli("-vv", *command, env=env)
        assert result.code == 0, f"{command}\n{result.err[-2500:]}"
    assert len(receiver.requests) == 1
    assert cli("check", "--json", env=env).json["exit_code"] == 1  # a server_tag that the page has not
    mariadb.drop_database(url)


def _sql(value: object) -> str:
    return "NULL" if value is None else repr(value)


def back_again(upgrade: Upgrade, world: World, tell: str, sync: str) -> None:
    """A change that a customer did not take goes to the plugin, by its flag; what the plugin told meanwhile is put
    right after coming back; and the last step leaves the plugin's table alone."""
    upgrade.receiver.answer("/voice", Answer(500))
    upgrade.serve(c1="operational", c3="major_outage")
    upgrade.cron(sync, tell)
    assert [owed.channel_id for owed in world.owed()] == [3]
    assert flags(upgrade) == []
    upgrade.follow("Back again", "console", last=1)
    upgrade.follow("Back again", "sql")
    assert flags(upgrade) == [4]
    # The plugin tells it, and that server 2 is well: by its own means.
    upgrade.sql(
        f"UPDATE {MONITOR} SET status_report = 0, modified = 7",
        f"UPDATE {MONITOR} SET final_status = 'operational', incident_status = 'operational' WHERE id = 2",
    )
    upgrade.receiver.answer("/voice", Answer(200))
    before = len(upgrade.told())
    upgrade.follow("Back again", "console", first=2)  # And forth once more
    upgrade.serve(c1="operational", c3="major_outage", c2="operational")
    upgrade.cron(sync, tell)
    now = dict(upgrade.told()[before:])
    assert now == {
        "+91001": "operational",
        "+91002": "operational",
        "+91003": "critical",
        "+91005": "warning",
        "+91007": "operational",
    }
    assert world.owed() == []
    upgrade.follow("Back again", "console", first=1, last=2)
