"""run-helper does what the PHP plugin's cron lines did, and crontab.example's lines do it from cron's own shell."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from monitor_cli.cli.run_helper import helper_of
from monitor_cli.errors import UsageError
from tests.support.cli import Cli
from tests.support.http import Receiver, StatusPage
from tests.support.stores import Store
from tests.support.world import World

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (ROOT / "crontab.example").read_text("utf-8")
PHP = [
    f"php -f /var/www/html/voice/cron/runHelper?helper={name}&component=monitor" for name in ("Callback", "Incident")
]

PAGE = {"page": {"id": "p"}, "components": [{"id": "c1", "name": "Voice", "status": "major_outage"}]}


class Outage(NamedTuple):
    """A status page with an outage that the database does not know yet, and a customer whom it concerns."""

    cli: Cli
    world: World
    receiver: Receiver
    server: int

    @property
    def known(self) -> bool:
        return bool(self.world.server_row(self.server).final_status == "critical")

    @property
    def told(self) -> bool:
        return bool(self.receiver.requests) and not self.world.owed()


def break_out(cli: Cli, world: World, receiver: Receiver, status_page: StatusPage) -> Outage:
    status_page.serve("/api/v2/summary.json", PAGE)
    server = world.server(tag="c1", channel=1)
    acme = world.account("acme")
    world.number(acme, "+911", channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    cli.env.update(MONITOR_INCIDENT_URL=status_page.url("/"), MONITOR_ALLOW_NETWORKS="127.0.0.1")
    return Outage(cli, world, receiver, server)


@pytest.fixture
def outage(
    sqlite_database: Store,
    make_cli: Callable[[str | None], Cli],
    receiver: Receiver,
    status_page: StatusPage,
) -> Outage:
    return break_out(make_cli(sqlite_database.url), World(sqlite_database), receiver, status_page)


# --- the query --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Callback", "Incident"])
@pytest.mark.parametrize(
    "form",
    [
        "helper={}&component=monitor",
        "component=monitor&helper={}",
        "helper={}",  # in the original's unquoted line the shell ends the command at `&`
        "/var/www/html/voice/cron/runHelper?helper={}&component=monitor",
        "/var/www/html/voice/cron/runHelper?helper={}",
        "runHelper?helper={}&component=monitor",
        "?helper={}",
    ],
)
def test_forms_of_the_query(name: str, form: str) -> None:
    assert helper_of(form.format(name)) == name


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("helper=Callback&component=voice", "unknown component 'voice'"),
        ("helper=Callback&component=", "unknown component ''"),
        ("helper=Billing&component=monitor", "unknown helper 'Billing'"),
        ("helper=callback", "unknown helper 'callback'"),
        ("helper=", "unknown helper ''"),
        ("component=monitor", "no helper query"),
        ("helper=Callback&helper=Incident", "no helper query"),
        ("helper=Callback&component=monitor&component=monitor", "no helper query"),
        ("helper=Callback&force=1", "no helper query"),
        ("/var/www/html/voice/cron/runHelper", "no helper query"),
        ("Callback", "no helper query"),
        ("", "no helper query"),
    ],
)
def test_any_other_value_is_a_usage_error(outage: Outage, query: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        helper_of(query)
    result = outage.cli("run-helper", query)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "helper=Callback&component=monitor" in result.err  # how it is written
    assert not outage.known


def test_the_query_is_needed(outage: Outage) -> None:
    assert outage.cli("run-helper").code == 2
    assert outage.cli("run-helper", "helper=Callback", "component=monitor").code == 2


# --- what it does -----------------------------------------------------------------------------------------------------


def test_it_does_what_the_two_commands_do(cli: Cli, world: World, receiver: Receiver, status_page: StatusPage) -> None:
    outage = break_out(cli, world, receiver, status_page)
    outage.cli("run-helper", "helper=Callback&component=monitor").quiet()
    assert not outage.known
    assert outage.receiver.requests == []

    outage.cli("run-helper", "helper=Incident&component=monitor").quiet()
    assert outage.known
    assert outage.receiver.requests == []

    outage.cli("run-helper", "helper=Callback&component=monitor").quiet()
    assert outage.told
    assert len(outage.receiver.requests) == 1


def test_exit_codes_are_theirs(outage: Outage, status_page: StatusPage) -> None:
    status_page.serve("/api/v2/summary.json", b"<html>", status=503)
    result = outage.cli("run-helper", "helper=Incident")
    assert result.code == 75
    assert result.err.count("\n") == 1
    del outage.cli.env["MONITOR_INCIDENT_URL"]
    assert outage.cli("run-helper", "helper=Incident").code == 78
    assert outage.cli("run-helper", "helper=Callback").code == 0


# --- crontab.example --------------------------------------------------------------------------------------------------


def jobs(text: str) -> list[str]:
    """The commands of a crontab's lines, each of them due every minute."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#") and not re.match(r"\w+ *=", line)]
    assert all(line.startswith("* * * * * ") for line in lines), lines
    return [line.removeprefix("* * * * * ") for line in lines]


def alternatives(text: str) -> list[str]:
    """The jobs that stand there as comments."""
    return jobs("\n".join(line[1:] for line in text.splitlines() if line.startswith("#* ")))


def variables(text: str) -> dict[str, str]:
    found = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    assert len(dict(found)) == len(found)
    return dict(found)


def cron(outage: Outage, command: str) -> subprocess.CompletedProcess[str]:
    """Run a job as cron does: by sh, at home, with little in the environment but the crontab's own variables."""
    assert "%" not in command
    path = variables(EXAMPLE)["PATH"].replace("/opt/monitor-cli/bin", str(Path(sys.executable).parent))
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={**outage.cli.environment(), "PATH": path, "SHELL": "/bin/sh"},
        cwd=outage.cli.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_example_names_the_php_lines_and_their_replacements() -> None:
    assert alternatives(EXAMPLE) == [*PHP, "monitor-cli incident-sync; monitor-cli callback-run"]
    assert jobs(EXAMPLE) == [f"monitor-cli run-helper 'helper={n}&component=monitor'" for n in ("Callback", "Incident")]
    assert set(variables(EXAMPLE)) == {"MAILTO", "PATH"}
    assert len(EXAMPLE.encode()) == len(EXAMPLE)  # cron knows no encodings


def test_the_example_s_lines_work_from_cron(outage: Outage) -> None:
    tell, sync = jobs(EXAMPLE)
    for command in (tell, sync, tell):
        done = cron(outage, command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert outage.known
    assert outage.told


def test_the_example_s_one_line_works_from_cron_also_while_a_source_is_down(
    outage: Outage, status_page: StatusPage
) -> None:
    command = alternatives(EXAMPLE)[-1]
    done = cron(outage, command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert outage.known
    assert outage.told
    outage.world.flag(outage.server, "operational")
    status_page.serve("/api/v2/summary.json", b"", status=500)
    assert cron(outage, command).stderr.startswith("source.failed ")
    assert [request.json["data"]["incidents"][0]["type"] for request in outage.receiver.requests] == [
        "critical",
        "operational",
    ]


def test_the_php_lines_work_with_their_program_alone_replaced(outage: Outage) -> None:
    """Unquoted, so that the shell puts the command into the background and drops the component."""
    tell, sync = (line.replace("php -f", "monitor-cli run-helper") for line in PHP)
    for command in (sync, tell):
        done = cron(outage, command)  # returns once the background command has closed its output
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert outage.known
    assert outage.told


def test_a_user_field_stands_where_the_example_says(outage: Outage) -> None:
    (line,) = re.findall(r"(\* \* \* \* \*) (monitor)  (monitor-cli .*)$", EXAMPLE, re.MULTILINE)
    assert line[1] == "monitor"
    assert cron(outage, line[2]).returncode == 0
