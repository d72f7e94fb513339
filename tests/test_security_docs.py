"""docs/security.md: each job works on a database user with the rights that the page gives it, and can do no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pymysql
import pytest
from sqlalchemy.engine import make_url

from monitor_cli import schema
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.mariadb import MariaDB
from tests.support.stores import Store
from tests.support.world import World

DOCS = Path(__file__).resolve().parent.parent / "docs"
STATEMENTS = [
    statement
    for page in ("security.md", "database.md")
    for block in re.findall(r"```sql\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    for statement in re.findall(r"^(?:CREATE USER|GRANT) .*?;$", block, re.MULTILINE | re.DOTALL)
]
JOBS = ("sync", "callback", "api")
ENV = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8", "MONITOR_RETRY_SCHEDULE": "0.05,0.05", "MONITOR_MAX_SECONDS": "2"}


class Scene(NamedTuple):
    """A database with a user for each job; `url` gives a user's."""

    store: Store
    world: World
    url: Callable[[str], str]


@pytest.fixture
def scene(mariadb: MariaDB, _stores: Callable[[str], object]) -> Iterator[Scene]:
    stores = _stores("mariadb")
    store = stores.empty(Path())  # type: ignore[attr-defined]
    stores.upgraded(store)  # type: ignore[attr-defined]
    name = str(make_url(store.url).database)

    def own(statement: str) -> str:
        """On this database and address, with users of this test's own."""
        named = statement.replace("voice.", f"`{name}`.").replace("'localhost'", "'127.0.0.1'")
        return re.sub(r"'monitor_(\w+)'@", rf"'{name}_\1'@", named)

    def url(job: str) -> str:
        (password,) = {word for s in STATEMENTS for word in re.findall(rf"'monitor_{job}'@.*IDENTIFIED BY '(.*)'", s)}
        whole = make_url(store.url).set(username=f"{name}_{job}", password=password)
        return whole.render_as_string(hide_password=False)

    mine = [own(s) for s in STATEMENTS if re.search(rf"'monitor_({'|'.join(JOBS)})'@", s)]
    assert len(mine) > 25
    mariadb.execute(*mine)
    yield Scene(store, World(store), url)
    stores.drop(store)  # type: ignore[attr-defined]


def page_with(**status: str) -> str:
    components = [{"id": tag, "name": tag, "status": word} for tag, word in status.items()]
    return json.dumps({"page": {"id": "p"}, "components": components})


def test_each_job_works_with_its_own_rights(
    scene: Scene, make_cli: Callable[[str | None], Cli], receiver: Receiver, status_page: StatusPage
) -> None:
    world, answers = scene.world, [Answer(500), Answer(200), Answer(410)]
    account = world.account("acme", key="a-key")
    world.server(channel=1, tag="a")
    world.server(channel=2, tag="b")
    world.number(account, "+1", channel=1)
    world.callback(account, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", *answers)
    sync, tell = make_cli(scene.url("sync")), make_cli(scene.url("callback"))
    url = status_page.url("/page")

    status_page.serve("/page", page_with(a="major_outage", b="never heard of"))
    sync("incident-sync", "--url", url, "--dry-run").ok()
    assert "word.unknown" in sync("incident-sync", "--url", url).ok().err
    tell("callback-run", "--dry-run", env=ENV).ok()
    tell("callback-run", env=ENV).quiet()  # 500, then 200
    assert [one.state for one in world.deliveries()] == ["done"]

    status_page.serve("/page", page_with(a="operational"))
    sync("incident-sync", "--url", url, env={"MONITOR_CONFIRM": "1"}).ok()
    status_page.remove("/page")
    assert sync("incident-sync", "--url", url).code == 75
    status_page.serve("/page", page_with(a="operational", b="operational"))
    sync("incident-sync", "--url", url, env={"MONITOR_CONFIRM": "2"}).ok()
    assert "callback.off" in tell("callback-run", env=ENV).ok().err  # 410
    assert len(receiver.requests) == 3
    assert len(world.attempts()) == 3

    make_cli(scene.url("api"))("db", "check", "--api").quiet()


REFUSED = {
    "sync": ("callback", "account", "number", "delivery", "owed", "attempt"),
    "callback": ("source", "document", "condition", "attempt"),
    "api": ("callback", "change", "delivery", "owed", "attempt", "source"),
}


@pytest.mark.parametrize("job", JOBS)
def test_none_can_do_more(scene: Scene, job: str) -> None:
    url = make_url(scene.url(job))
    connection = pymysql.connect(
        host=url.host, port=url.port or 0, user=url.username, password=url.password or "", database=url.database
    )
    try:
        with connection.cursor() as cursor:

            def refused(statement: str) -> None:
                with pytest.raises(pymysql.err.OperationalError) as raised:
                    cursor.execute(statement)
                assert raised.value.args[0] in (1142, 1143), statement

            for table in REFUSED[job]:
                refused(f"SELECT * FROM infi_voice_monitor_{table}")
            if job == "callback":
                refused("SELECT api_key_sha256 FROM infi_voice_monitor_account")
            for table in schema.metadata.tables:
                refused(f"DROP TABLE {table}")
                if job == "api":
                    refused(f"DELETE FROM {table}")
            refused("DELETE FROM infi_voice_monitor")
            refused("INSERT INTO infi_voice_monitor (server_id) VALUES (1)")
    finally:
        connection.close()
