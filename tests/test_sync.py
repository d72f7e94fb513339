"""incident-sync through the real command line, from a real status page into each store: what is written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from monitor_cli import schema
from tests.support.cli import Cli
from tests.support.http import Receiver, StatusPage
from tests.support.stores import Store
from tests.support.world import World

PATH = "/api/v2/summary.json"
SUMMARIES = ["claude-summary-2026-09-22", "cloudflare-summary-trimmed-2026-08-07", "twilio-summary-2020-06-16"]
TYPES = {
    "operational": "operational",
    "degraded_performance": "warning",
    "partial_outage": "warning",
    "under_maintenance": "warning",
    "major_outage": "critical",
}


def page(words: dict[str, str], **more: Any) -> dict[str, Any]:
    components = [{"id": key, "name": key.upper(), "status": word} for key, word in words.items()]
    return {"page": {"id": "p"}, "components": components, **more}


def state(world: World, server: int) -> tuple[Any, ...]:
    row = world.server_row(server)
    return row.incident_status, row.final_status, row.status_report


def everything(world: World) -> list[Any]:
    """All that a source's failure must leave alone."""
    return [world.rows(table) for table in (schema.monitor, schema.change, schema.owed, schema.delivery)]


@pytest.fixture
def sync(cli: Cli, status_page: StatusPage) -> Any:
    """sync({"tag": "word"}) serves a page with these components and runs incident-sync on it."""

    def run(words: dict[str, str], *args: str, **more: Any) -> Any:
        status_page.serve(PATH, page(words, **more))
        return cli("incident-sync", "--url", status_page.url("/"), *args)

    return run


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_component_of_a_captured_page_reaches_its_server(
    cli: Cli, world: World, status_page: StatusPage, samples: Path, name: str
) -> None:
    file = samples / "statuspage" / f"{name}.json"
    components = json.loads(file.read_bytes())["components"]
    servers = {world.server(channel=n, tag=c["id"]): c for n, c in enumerate(components, 1)}
    status_page.serve(PATH, file)
    cli.process("incident-sync", "--url", status_page.url("/")).quiet()
    for server, component in servers.items():
        kind = TYPES[component["status"]]
        assert state(world, server) == (component["status"], kind, int(kind != "operational"))
    changed = [c for c in components if c["status"] != "operational"]
    assert [(c.incident_status, c.from_type, c.to_type) for c in world.changes()] == [
        (c["status"], "operational", TYPES[c["status"]]) for c in changed
    ]
    before = everything(world)
    cli("incident-sync", "--url", status_page.url(PATH)).quiet()
    cli("incident-sync", "--file", str(file)).quiet()
    assert everything(world) == before


def test_the_history_has_all_of_a_change(sync: Any, world: World) -> None:
    server = world.server(channel=7, tag="abc", name="Zürich 1", server_id=9, region=None, region_code="KA-IN")
    incident = {"name": "Störung in Zürich", "status": "investigating", "components": [{"id": "abc"}]}
    sync({"abc": "major_outage"}, incidents=[{**incident, "shortlink": "https://stspg.io/x"}]).quiet()
    (change,) = world.changes()
    row = change._asdict()
    assert abs(row.pop("created_at") / 1000 - time.time()) < 60
    assert row.pop("source").startswith("127.0.0.1:")
    assert row == {
        "id": change.id,
        "monitor_id": server,
        "server_id": 9,
        "name": "Zürich 1",
        "channel_id": 7,
        "region": "",
        "region_code": "KA-IN",
        "from_type": "operational",
        "to_type": "critical",
        "incident_status": "major_outage",
        "incident_title": "Störung in Zürich",
        "incident_link": "https://stspg.io/x",
        "flag_stood": 0,
        "planned": 0,
    }
    assert abs(world.server_row(server).modified - time.time()) < 60


def test_only_what_changed_is_written(sync: Any, world: World) -> None:
    servers = [world.server(tag="same", modified=5), world.server(tag="same", modified=5, channel=2)]
    other = world.server(tag="other", modified=5)
    sync({"same": "operational", "other": "partial_outage"}).quiet()
    assert [world.server_row(s).modified for s in servers] == [5, 5]
    assert world.server_row(other).modified > 5
    assert state(world, other) == ("partial_outage", "warning", 1)


def test_another_word_of_the_same_type_sets_no_flag(sync: Any, world: World) -> None:
    server = world.server(tag="a", incident_status="degraded_performance", final_status="Warning", modified=5)
    sync({"a": "partial_outage"}).quiet()
    assert state(world, server) == ("partial_outage", "Warning", 0)
    assert world.server_row(server).modified > 5
    assert world.changes() == []


@pytest.mark.parametrize("final", ["Operational", "OPERATIONAL", " operational "])
def test_capitals_are_no_difference(sync: Any, world: World, final: str) -> None:
    server = world.server(tag="a", incident_status="Operational", final_status=final, modified=5)
    sync({"a": "operational"}).quiet()
    assert world.server_row(server).modified == 5
    assert world.server_row(server).final_status == final


@pytest.mark.parametrize("final", [None, "", "unknown"])
def test_an_unknown_type_before_is_a_change_from_nothing(sync: Any, world: World, final: str | None) -> None:
    server = world.server(tag="a", incident_status=None, final_status=final)
    sync({"a": "operational"}).quiet()
    assert state(world, server) == ("operational", "operational", 1)
    (change,) = world.changes()
    assert (change.from_type, change.to_type, change.flag_stood) == (None, "operational", 0)


def test_a_flag_that_stood_is_noted_and_kept(sync: Any, world: World) -> None:
    flagged = world.server(tag="a", status_report=1)
    untouched = world.server(tag="b", status_report=1)
    sync({"a": "major_outage", "b": "operational"}).quiet()
    assert state(world, flagged) == ("major_outage", "critical", 1)
    assert state(world, untouched) == ("operational", "operational", 1)
    assert [(c.monitor_id, c.flag_stood) for c in world.changes()] == [(flagged, 1)]
    sync({"a": "operational", "b": "operational"}).quiet()
    assert [c.flag_stood for c in world.changes()] == [1, 1]


def test_tags_are_compared_byte_for_byte(sync: Any, world: World) -> None:
    exact = world.server(tag="Abc")
    others = [world.server(server_tag=tag) for tag in ("abc", "ABC", "Abc ", "Äbc", "")]
    sync({"Abc": "major_outage"})
    assert state(world, exact)[1] == "critical"
    assert {state(world, other)[1] for other in others} == {"operational"}


def test_a_long_word_is_cut_and_stays_unchanged(sync: Any, world: World) -> None:
    server = world.server(tag="a")
    word = "ü" * 80
    assert "word.unknown" in sync({"a": word}).err
    assert state(world, server) == ("ü" * 50, "warning", 1)
    row = world.server_row(server)
    sync({"a": word}).quiet()
    assert world.server_row(server) == row


def test_status_map_overrides_any_word(cli: Cli, world: World, status_page: StatusPage, tmp_path: Path) -> None:
    server, other = world.server(tag="a"), world.server(tag="b")
    status_page.serve(PATH, page({"a": "partial_outage", "b": "on_fire"}))
    config = tmp_path / "c.toml"
    config.write_text(
        f'[[sources]]\nname = "main"\nurl = "{status_page.url("/")}"\n'
        'status_map = { partial_outage = "critical", On_Fire = "operational" }\n'
    )
    cli("--config", str(config), "incident-sync").quiet()
    assert state(world, server) == ("partial_outage", "critical", 1)
    assert state(world, other) == ("on_fire", "operational", 0)


def test_an_outage_and_its_end_reach_customers(sync: Any, cli: Cli, world: World, receiver: Receiver) -> None:
    world.server(tag="a", channel=1)
    account = world.account("acme")
    world.number(account, "+1", channel=1)
    world.callback(account, receiver.url("/hook"), raw_json=True)
    for word, kind in (("major_outage", "critical"), ("operational", "operational")):
        receiver.clear()
        sync({"a": word}).quiet()
        sync({"a": word}).quiet()
        cli("callback-run", env={"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}).quiet()
        (request,) = receiver.requests
        (entry,) = request.json["data"]["incidents"]
        assert (entry["type"], entry["numbers"]) == (kind, ["+1"])


def test_a_table_that_cannot_hold_a_word_gets_it_with_question_marks(sync: Any, world: World, database: Store) -> None:
    if database.name == "sqlite":
        pytest.skip("SQLite has no character sets")
    with database.write() as conn:
        conn.exec_driver_sql("ALTER TABLE infi_voice_monitor CONVERT TO CHARACTER SET latin1")
    odd, other = world.server(tag="a"), world.server(tag="b")
    sync({"a": "gestört 障害", "b": "major_outage"})
    assert state(world, odd) == ("gestört ??", "warning", 1)
    assert state(world, other) == ("major_outage", "critical", 1)
    row = world.server_row(odd)
    sync({"a": "gestört 障害", "b": "major_outage"}).quiet()
    assert world.server_row(odd) == row


def test_odd_rows_of_an_installed_platform(sync: Any, world: World, database: Store) -> None:
    """NULL where our own table has none."""
    if database.name == "sqlite":
        pytest.skip("SQLite cannot alter a column")
    with database.write() as conn:
        for column, kind in (("server_id", "SMALLINT"), ("name", "VARCHAR(100)"), ("status_report", "TINYINT")):
            conn.exec_driver_sql(f"ALTER TABLE infi_voice_monitor MODIFY {column} {kind} NULL")
        conn.exec_driver_sql("ALTER TABLE infi_voice_monitor MODIFY server_tag VARCHAR(30) NULL")
    server, nothing = world.server(tag="a"), world.server()
    with world.database.write() as conn:
        m = schema.monitor
        conn.execute(update(m).where(m.c.id == server).values(server_id=None, name=None, status_report=None))
        conn.execute(update(m).where(m.c.id == nothing).values(server_tag=None))
    sync({"a": "major_outage"}).quiet()
    assert state(world, server) == ("major_outage", "critical", 1)
    assert [(c.server_id, c.name, c.flag_stood) for c in world.changes()] == [(0, "", 0)]


def test_what_a_page_says_at_length_is_cut(sync: Any, world: World) -> None:
    world.server(tag="a")
    incident = {"name": "t" * 200_000, "status": "identified", "components": [{"id": "a"}]}
    sync({"a": "major_outage"}, incidents=[{**incident, "shortlink": "https://x/" + "l" * 200_000}]).quiet()
    (change,) = world.changes()
    assert (len(change.incident_title), change.incident_link) == (1000, None)


# --- a dry run --------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_and_writes_nothing(sync: Any, world: World, cli: Cli, status_page: StatusPage) -> None:
    world.server(tag="a", name="voice-1")
    world.server(tag="b")
    before = everything(world)
    result = sync({"a": "major_outage", "c": "odd"}, "--dry-run")
    assert result.code == 0
    heads, line = result.out.splitlines()
    assert heads.split() == ["ID", "SERVER_TAG", "NAME", "FROM", "TO", "INCIDENT_STATUS", "SOURCE"]
    assert line.split()[1:6] == ["a", "voice-1", "operational", "critical", "major_outage"]
    assert "components=b" in result.err
    assert "words=odd" in result.err
    status_page.serve(PATH, status=500)
    for _ in range(2):
        result = sync_failed(cli, status_page, "--dry-run")
        assert "HTTP 500" in result.err
    assert everything(world) == before
    assert not [t.name for t in (schema.source, schema.condition, schema.lease) if world.rows(t)]


def sync_failed(cli: Cli, status_page: StatusPage, *args: str) -> Any:
    result = cli("incident-sync", "--url", status_page.url("/"), *args)
    assert (result.code, result.out) == (75, "")
    return result


# --- other programs at the same time ----------------------------------------------------------------------------------


def test_a_row_is_judged_again_under_its_lock(sync: Any, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at all rows and the writing another program moves rows: what it wrote counts."""
    told, moved, gone, flagged = (world.server(tag="a", channel=n) for n in range(1, 5))
    m = schema.monitor

    def another_program() -> None:
        with world.database.write() as conn:
            conn.execute(
                update(m).where(m.c.id == told).values(incident_status="major_outage", final_status="critical")
            )
            conn.execute(update(m).where(m.c.id == moved).values(server_tag="elsewhere"))
            conn.execute(m.delete().where(m.c.id == gone))
            conn.execute(update(m).where(m.c.id == flagged).values(status_report=1, final_status="warning"))

    from monitor_cli.sync import rows

    scan = rows.scan

    def scan_and_move(*args: Any, **more: Any) -> Any:
        found = scan(*args, **more)
        assert found.ids == [told, moved, gone, flagged]
        another_program()
        return found

    monkeypatch.setattr(rows, "scan", scan_and_move)
    sync({"a": "major_outage"}).quiet()
    assert state(world, told) == ("major_outage", "critical", 0)
    assert state(world, moved) == ("operational", "operational", 0)
    assert state(world, flagged) == ("major_outage", "critical", 1)
    assert [(c.monitor_id, c.from_type, c.flag_stood) for c in world.changes()] == [(flagged, "warning", 1)]


def test_many_rows_go_in_batches(sync: Any, world: World) -> None:
    rows = [
        {"server_id": 1, "name": f"s{n}", "server_tag": f"t{n % 100}", "channel_id": n, "modified": 5}
        for n in range(25_000)
    ]
    with world.database.write() as conn:
        conn.execute(schema.monitor.insert(), rows)
    words = {f"t{n}": ("major_outage", "partial_outage", "operational")[min(n, 2)] for n in range(100)}
    sync(words).quiet()
    changed = [row for row in world.rows(schema.monitor) if row.modified > 5]
    assert len(changed) == 500
    assert {(r.server_tag, r.final_status, r.status_report) for r in changed} == {
        ("t0", "critical", 1),
        ("t1", "warning", 1),
    }
    assert len(world.changes()) == 500


# --- broken sources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"status": 500}, "HTTP 500"),
        ({"document": b"<html>"}, "HTML"),
        ({"document": b'{"page": {}, "components": [{"id": "a", "sta'}, "not JSON"),
        ({"document": b'{"page": {}, "components": [{"id": "a", "status": "operational"}]}', "truncate": 40}, "early"),
        ({"document": {"components": {}}}, "no document of a status page"),
        ({"document": {"page": {}, "components": [{"id": "a", "status": 5}]}}, "no status that is text"),
        ({"document": b"[" * 100_000}, "nested too deeply"),
        ({"document": b" " * (33 * 2**20)}, "larger than 32 MiB"),
        ({"document": {}, "delay": 30}, "not read within 0.5 s"),
        ({"document": b" " * 5000, "drip": 0.05}, "not read within 0.5 s"),
        ({"drop": "after"}, "cannot be reached"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_source_changes_nothing(
    cli: Cli, world: World, status_page: StatusPage, tmp_path: Path, serve: dict[str, Any], words: str
) -> None:
    world.server(tag="a", final_status="critical", status_report=1)
    before = everything(world)
    status_page.serve(PATH, **serve)
    config = tmp_path / "c.toml"
    timeout = 0.5 if "0.5 s" in words else 20  # a busy machine is slow to serve 33 MiB
    config.write_text(f'[[sources]]\nname = "main"\nurl = "{status_page.url("/")}"\ntimeout = {timeout}\n')
    result = cli("--config", str(config), "incident-sync")
    assert (result.code, result.out) == (75, "")
    (line,) = result.err.splitlines()
    assert line.startswith("source.failed source=main error=")
    assert words in line
    assert status_page.url(PATH) in line
    again = cli("--config", str(config), "incident-sync")
    assert (again.code, again.out, again.err) == (75, "", "")
    assert everything(world) == before
    loud = cli("-v", "--config", str(config), "incident-sync")
    assert loud.code == 75
    assert "source.failing source=main error=" in loud.err
    status_page.serve(PATH, page({"a": "operational"}))
    well = cli("--config", str(config), "incident-sync")
    assert (well.code, well.out) == (0, "")
    (line,) = well.err.splitlines()
    assert line.startswith("source.recovered source=main failing_since=2")
    cli("--config", str(config), "incident-sync").quiet()


def test_a_file_over_the_limit_is_told_once_as_any_broken_source(cli: Cli, world: World, tmp_path: Path) -> None:
    world.server(tag="a", final_status="critical", status_report=1)
    before = everything(world)
    file = tmp_path / "page.json"
    file.write_bytes(b'{"page": {}, "components": [' + b" " * (32 * 2**20))
    result = cli("incident-sync", "--file", str(file))
    assert (result.code, result.out) == (75, "")
    (line,) = result.err.splitlines()
    assert line.startswith("source.failed source=")
    assert "larger than 32 MiB" in line
    again = cli("incident-sync", "--file", str(file))
    assert (again.code, again.out, again.err) == (75, "", "")
    assert everything(world) == before
    file.write_text(json.dumps(page({"a": "major_outage"})))
    well = cli("incident-sync", "--file", str(file))
    assert well.code == 0
    assert well.err.startswith("source.recovered ")


def test_json_log_lines(cli: Cli, world: World, status_page: StatusPage) -> None:
    status_page.serve(PATH, status=503)
    result = cli("--log-format", "json", "incident-sync", "--url", status_page.url("/"))
    line = json.loads(result.err)
    assert (result.code, line["event"], line["level"]) == (75, "source.failed", "error")
    assert line["error"] == f"{status_page.url(PATH)}: answered HTTP 503 Service Unavailable"


# --- the command line -------------------------------------------------------------------------------------------------


def test_files(cli: Cli, world: World, tmp_path: Path) -> None:
    server = world.server(tag="a")
    document = json.dumps(page({"a": "major_outage"}))
    cli("incident-sync", "--file", "-", stdin=document).quiet()
    assert state(world, server)[1] == "critical"
    components, incidents = tmp_path / "components.json", tmp_path / "incidents.json"
    components.write_text(json.dumps(page({"a": "partial_outage"})))
    incidents.write_text(
        json.dumps({"incidents": [{"name": "T", "status": "identified", "components": [{"id": "a"}]}]})
    )
    cli("incident-sync", "--file", str(incidents), "--file", str(components)).quiet()
    assert world.changes()[-1].incident_title == "T"
    for _ in range(2):  # what came through a pipe is told each time
        result = cli("incident-sync", "--file", "-", stdin="<html>")
        assert (result.code, len(result.err.splitlines())) == (75, 1)
    alone = cli("incident-sync", "--file", str(incidents))
    assert alone.code == 75
    assert "give the page's /api/v2/summary.json" in alone.err


@pytest.mark.parametrize(
    ("args", "env", "code", "words"),
    [
        ((), {}, 78, "no source is configured"),
        (("--source", "mian"), {}, 2, "there is no source 'mian'"),
        (("--file", "absent.json"), {}, 2, "absent.json"),
        (("--file", "/"), {}, 2, "directory"),
        (("--file", "-", "--file", "-"), {}, 2, "given once"),
        (("--file", "-", "--url", "http://127.0.0.1/"), {}, 2, "exclude each other"),
        (("--provider", "statuspge"), {}, 2, "statuspge"),
        (("--url", "status.example.com"), {}, 2, "no http or https URL"),
        (("--url", ""), {}, 2, "no http or https URL"),
        (("--url", "ftp://127.0.0.1/"), {}, 2, "no http or https URL"),
        (("--url", "http://127.0.0.1:99999/"), {}, 2, "no http or https URL"),
        ((), {"MONITOR_INCIDENT_URL": "nonsense"}, 78, "no http or https URL"),
    ],
)
def test_what_cannot_be_meant(
    cli: Cli, world: World, args: tuple[str, ...], env: dict[str, str], code: int, words: str
) -> None:
    result = cli("incident-sync", *args, env=env)
    assert (result.code, result.out) == (code, "")
    assert words in result.err
    assert "Traceback" not in result.err


def test_configured_sources(cli: Cli, world: World, status_page: StatusPage, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[[sources]]\nname = "main"\nurl = "http://127.0.0.1/"\nprovider = "statuspge"\n')
    result = cli("--config", str(config), "incident-sync")
    assert (result.code, "did you mean 'statuspage'?" in result.err) == (78, True)
    config.write_text(
        f'[[sources]]\nname = "main"\nurl = "{status_page.serve("/a.json", page({"a": "major_outage"}))}"\n'
        f'[[sources]]\nname = "other"\nurl = "{status_page.serve("/b.json", page({"b": "major_outage"}))}"\n'
    )
    near = cli("--config", str(config), "incident-sync", "--source", "mian")
    assert (near.code, "did you mean 'main'?" in near.err) == (2, True)
    a, b = world.server(tag="a"), world.server(tag="b")
    cli("--config", str(config), "incident-sync", "--source", "other").quiet()
    assert [state(world, s)[1] for s in (a, b)] == ["operational", "critical"]
    cli("--config", str(config), "incident-sync", "--source", "main", "--provider", "statuspage").quiet()
    assert state(world, a)[1] == "critical"
    assert [c.source for c in world.changes()] == ["other", "main"]


def test_one_url_from_the_environment_and_run_helper(cli: Cli, world: World, status_page: StatusPage) -> None:
    server = world.server(tag="a")
    env = {"MONITOR_INCIDENT_URL": status_page.url("/")}
    status_page.serve(PATH, page({"a": "major_outage"}))
    cli("run-helper", "helper=Incident&component=monitor", env=env).quiet()
    assert state(world, server) == ("major_outage", "critical", 1)
    status_page.serve(PATH, status=500)
    assert cli("run-helper", "helper=Incident", env=env).code == 75


def test_a_database_without_tables(make_cli: Any, engine: Any, tmp_path: Path) -> None:
    file = tmp_path / "doc.json"
    file.write_text(json.dumps(page({"a": "operational"})))
    result = make_cli(engine.url)("incident-sync", "--file", str(file))
    assert result.code == 78
    assert "monitor-cli db upgrade" in result.err
