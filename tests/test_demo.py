"""`monitor-cli demo` plays an outage through for real, leaves one file behind, and says so when something is amiss."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor_cli.demo.stage import Stage
from monitor_cli.demo.web import StatusPage
from monitor_cli.errors import MonitorError
from tests.support.cli import Cli, Result


@pytest.fixture
def cli(make_cli: Callable[[str | None], Cli]) -> Cli:
    return make_cli(None)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """One demonstration, in a folder of its own, amid settings that are not its own."""
    cli = Cli(None, tmp_path_factory.mktemp("a b"))
    strange = {
        "MONITOR_DATABASE_URL": "mysql://nobody@127.0.0.1:1/none",
        "MONITOR_CONFIG": "/nonexistent",
        "http_proxy": "http://127.0.0.1:9",
    }
    try:
        return cli.process("demo", env=strange).ok(), cli.home
    finally:
        cli.close()


def scenes(text: str) -> list[str]:
    return re.split(r"\n\d\. ", text)[1:]


def test_it_shows_each_form_as_the_customer_receives_it(played: tuple[Result, Path]) -> None:
    outage = scenes(played[0].out)[2]
    document = '{"status":"200","message":"OK","data":{"incidents":[{"region":"karnataka","region_code":"KA-IN",'
    document += '"type":"critical","service":"all","numbers":["+918012340001"]}]}}'
    assert re.search(r"^  > GET /acme/get\?status=%7B%22status%22%3A%22200%22\S+%7D +\[.*answered 200\]$", outage, re.M)
    assert re.search(
        r"^  > POST /acme/form +\[application/x-www-form-urlencoded, .*answered 200\]\n    token=t0p&data=%7B\S+$",
        outage,
        re.M,
    )
    body = f'    {{"text": "1 number in karnataka (KA-IN) is critical.", "data": {document}}}'
    assert outage.count(body) == 2
    assert "from=operational to=critical incident_status=major_outage" in outage


def test_it_shows_a_retry_of_the_same_id(played: tuple[Result, Path]) -> None:
    outage = scenes(played[0].out)[2]
    tries = re.findall(r"> POST /acme/json +\[application/json, webhook-id: (\S+), answered (\d+)\]", outage)
    assert [status for _, status in tries] == ["500", "200"]
    assert len({webhook_id for webhook_id, _ in tries}) == 1


def test_it_shows_recovery_the_incident_api_and_a_dropped_flap(played: tuple[Result, Path]) -> None:
    _, well, _, polled, recovered, flap = scenes(played[0].out)
    assert well.count("\n") == 3  # cron's commands say nothing
    assert '"type":"critical"' in polled
    assert "<type>critical</type>" in polled
    assert recovered.count("  > ") == 3
    assert "is operational." in recovered
    assert "  > " not in flap
    assert flap.count("change.dropped callback=") == 3
    assert "/globex" not in "".join([well, polled, recovered, flap])


def test_it_is_short_and_says_nothing_on_stderr(played: tuple[Result, Path]) -> None:
    result, _ = played
    assert result.err == ""
    assert len(result.out.splitlines()) < 90


def test_it_leaves_the_database_that_it_names_and_nothing_else(played: tuple[Result, Path]) -> None:
    result, home = played
    assert [file.name for file in home.iterdir() if file.name != "network-violations"] == ["demo.db"]
    assert result.out.rstrip().endswith(str(home / "demo.db"))
    exported = re.search(r"\nLook around\nexport (MONITOR_DATABASE_URL=.*)\n", result.out)
    assert exported
    shell = ["sh", "-c", f"{exported[1]} {sys.executable} -m monitor_cli server list --json"]
    assert '"major_outage"' not in subprocess.run(shell, capture_output=True, text=True, check=True, timeout=60).stdout
    with sqlite3.connect(home / "demo.db") as connection:
        assert connection.execute("SELECT count(*) FROM infi_voice_monitor_attempt").fetchone() == (7,)


def test_it_starts_afresh_each_time(cli: Cli, played: tuple[Result, Path]) -> None:
    shutil.copy(played[1] / "demo.db", cli.home)
    (cli.home / "types.py").write_text("raise SystemExit('imported from where the user stands')")
    cli.ok("demo")
    with sqlite3.connect(cli.home / "demo.db") as connection:
        assert connection.execute("SELECT count(*) FROM infi_voice_monitor").fetchone() == (2,)


@pytest.mark.parametrize("content", [b"", b"precious", None])
def test_somebody_elses_file_is_left_alone(cli: Cli, content: bytes | None) -> None:
    file = cli.home / "demo.db"
    if content is None:
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE mine (x)")
        content = file.read_bytes()
    file.write_bytes(content)
    result = cli("demo")
    assert result.code == 1
    assert result.err.startswith(f"monitor-cli: {file} is there and is no demonstration's\n")
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_written(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.home / "demo.db").symlink_to(cli.home / "nowhere" / "demo.db")
    monkeypatch.setattr(Path, "unlink", lambda *_args, **_options: None)
    result = cli("demo")
    assert result.code == 1
    assert "demo.db cannot be written: unable to open database file" in result.err
    assert "Traceback" not in result.err


def test_what_does_not_happen_ends_it_with_a_clear_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"page": {}, "components": []}  # a page that never goes down: callback-run has nobody to tell
    monkeypatch.setattr(StatusPage, "_document", lambda self: document)
    result = cli("demo")
    assert result.code == 1
    assert result.err.startswith("monitor-cli: the demo stops: customers should have got ")
    assert result.err.count("\n") == 1


def test_a_command_that_fails_ends_it_with_a_clear_line(tmp_path: Path) -> None:
    said: list[str] = []
    stage = Stage(said.append, {"MONITOR_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"})
    with pytest.raises(MonitorError) as raised:
        stage.command("server", "list")
    assert raised.value.message == "the demo stops: monitor-cli server list ended with 78"
    assert "run: monitor-cli db upgrade" in (raised.value.hint or "")
    with pytest.raises(MonitorError, match="serve-api ended with 78"), stage.server("serve-api"):
        pytest.fail("nothing was served")
    assert said == ["$ monitor-cli server list", "$ monitor-cli serve-api &"]


def test_a_signal_ends_all_of_it(cli: Cli) -> None:
    running = cli.start("demo")
    end = time.monotonic() + 60
    while "serving http" not in running.output()[0] and not running.ended and time.monotonic() < end:
        time.sleep(0.02)
    running.signal(signal.SIGTERM)
    result = running.wait()
    assert (result.code, result.err) == (143, "")
    while group_lives(running.pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not group_lives(running.pid)


def group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True
