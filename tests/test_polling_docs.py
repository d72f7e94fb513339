"""docs/polling.md keeps its word: each example is run against serve-api as it stands and compared byte for byte, each
answer of its table is given, and its program does with each what the table says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor_cli.config import Settings
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver
from tests.support.ports import free_port
from tests.support.stores import Store
from tests.support.world import World
from tests.test_api_server import Serving

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "polling.md").read_text("utf-8")
ADDRESS = "https://status-api.example.com/v1/"
EXAMPLES = re.findall(r"```sh\n(.*?)\n```\n```(json|xml|http)\n(.*?)\n```", TEXT, re.DOTALL)
PROGRAM, LOOP = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ROWS = re.findall(r"^\| (\d{3}) \| (?:`(\w+)`)? ?\| (?:`(.+?)`)? ?\| \S.* \|$", TEXT, re.MULTILINE)
ASK = "/v1/?method=monitor"


@pytest.fixture
def world(sqlite_database: Store) -> World:
    """The page's customers."""
    world = World(sqlite_database)
    world.server(channel=1)
    world.server(channel=2, final_status="critical")
    world.server(channel=2, region="delhi", region_code=None, final_status="warning")
    world.server(channel=3, region="delhi", region_code=None, final_status="warning")
    world.server(channel=3, final_status="warning")
    world.server(channel=3, final_status="critical")
    world.server(channel=4, final_status="critical")
    world.number(world.account("acme", key="your-key"), "+878788197367616", channel=1)
    other = world.account("other", key="another-key")
    world.number(other, "+8786", channel=1)
    world.number(other, "+8785", channel=3)
    world.number(other, "+8787", channel=4)
    world.account("unsubscribed", key="unsubscribed", subscribed=None)
    world.number(world.account("nowhere", key="nowhere"), "+8788", channel=99)
    return world


@pytest.fixture
def start(world: World, sqlite_database: Store, make_cli: Callable[[str | None], Cli]) -> Callable[..., Serving]:
    cli = make_cli(sqlite_database.url)
    return lambda **env: Serving(cli.start("serve-api", "--port", "0", "--workers", "1", env=env))


def away(start: Callable[..., Serving]) -> Serving:
    """One whose database does not answer."""
    return start(MONITOR_DATABASE_URL="mysql+pymysql://u:p@127.0.0.1:1/voice")


def at(serving: Serving, text: str) -> str:
    """The page's commands, with the server's address in the place of the example's."""
    return text.replace(ADDRESS, f"http://{serving.host}:{serving.port}/v1/")


def test_each_example_is_what_is_answered(start: Callable[..., Serving]) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    assert [language for _, language, _ in EXAMPLES] == ["json", "xml", "json", "json", "xml", "http", "http"]
    assert TEXT.count("```sh") == len(EXAMPLES)
    serving = start()
    for command, language, shown in EXAMPLES:
        assert ADDRESS in command
        done = subprocess.run(["sh", "-c", at(serving, command)], capture_output=True, timeout=60, check=True)
        if language != "http":
            assert done.stdout == shown.encode(), command
            continue
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        shown_head, _, shown_body = shown.partition("\n\n")
        first, *headers = shown_head.splitlines()
        got_first, *got = head.decode().split("\r\n")
        assert (got_first, body) == (first, shown_body.encode()), command
        assert {_header(line) for line in headers} <= {_header(line) for line in got}, command


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value


def test_each_answer_of_the_table_is_given(start: Callable[..., Serving]) -> None:
    serving, down = start(), away(start)
    etag = serving(ASK, x_api_key="your-key").headers["etag"]
    given = {
        ("200", "200"): serving(ASK, x_api_key="your-key"),
        ("304", ""): serving(ASK, x_api_key="your-key", if_none_match=etag),
        ("200", "E542"): serving(ASK, x_api_key="unsubscribed"),
        ("200", "E701"): serving(ASK, x_api_key="nowhere"),
        ("400", "400"): serving("/v1/", x_api_key="your-key"),
        ("401", "401"): serving(ASK),
        ("404", "404"): serving("/v2/", x_api_key="your-key"),
        ("405", "405"): serving(ASK, "DELETE", x_api_key="your-key"),
        ("429", "429"): bad_keys(serving, 21),
        ("503", "503"): down(ASK, x_api_key="your-key"),
    }
    assert {(http, status) for http, status, _ in ROWS} == set(given)
    for http, status, message in ROWS:
        answer = given[http, status]
        assert str(answer.status) == http
        if http == "304":
            assert answer.body == b""
            continue
        told = json.loads(answer.body)
        assert (told["status"], re.sub(r"\d+ s$", "3 s", told["message"])) == (status, message)
        assert ("data" in told) == (status == "200")
        assert ("retry-after" in answer.headers) == (http in ("429", "503"))
        assert ("etag" in answer.headers) == (http == "200")
    assert given["405", "405"].headers["allow"] == "GET, HEAD, POST"
    form = {"content_type": "application/x-www-form-urlencoded", "x_api_key": "your-key"}
    assert "etag" not in serving("/v1/", "POST", "method=monitor", **form).headers
    assert serving(ASK + "&format=xml", x_api_key="your-key").headers["etag"] != etag


def bad_keys(serving: Serving, times: int) -> Any:
    """The last of so many answers to keys that do not exist."""
    return [serving(ASK, x_api_key=f"no-{number}") for number in range(times)][-1]


def test_the_program_does_what_the_table_says(start: Callable[..., Serving], world: World, receiver: Receiver) -> None:
    space: dict[str, Any] = {}
    exec(PROGRAM, space)
    turn, refused = space["turn"], space["Refused"]
    serving, down = start(), away(start)
    address = at(serving, ADDRESS + "?method=monitor")

    known, wait = turn(address, "your-key")
    assert (known["incidents"][0]["numbers"], known["incidents"][0]["type"]) == (["+878788197367616"], "operational")
    assert (turn(address, "your-key", known), wait) == ((known, 60), 60)
    assert turn(address, "your-key", known)[0] is known  # 304
    world.server(channel=1, final_status="warning")
    assert turn(address, "your-key", known)[0]["incidents"][0]["type"] == "warning"
    assert turn(address, "nowhere")[0]["incidents"] == []
    for wrong, key, status in (
        (address, "unsubscribed", "E542"),
        (address, "no-such-key", "401"),
        (address.replace("method", "m"), "your-key", "400"),
        (address.replace("/v1/", "/v2/"), "your-key", "404"),
    ):
        with pytest.raises(refused, match=f"^{status} "):
            turn(wrong, key, known)
    assert turn(at(down, ADDRESS + "?method=monitor"), "your-key", known) == (known, 60)
    assert bad_keys(serving, 21).status == 429
    assert turn(address, "no-such-key", known) == (known, 60)
    assert turn(address, "your-key", known)[0]["incidents"][0]["type"] == "warning"  # never others' bad keys

    for answer, seconds in (
        (Answer(429, headers=(("Retry-After", "90"),)), 90),
        (Answer(200, body=b"<html>"), 60),
        (Answer(502), 60),
    ):
        receiver.answer(None, answer)
        assert turn(receiver.url("/"), "your-key", known) == (known, seconds)
    assert turn(f"http://127.0.0.1:{free_port()}/", "your-key", known) == (known, 60)


def test_the_loop_prints_the_numbers_and_waits(start: Callable[..., Serving]) -> None:
    once = "import time\ndef sleep(seconds):\n    raise SystemExit(f'waits {seconds}')\ntime.sleep = sleep\n"
    command = [sys.executable, "-c", once + PROGRAM + at(start(), LOOP)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("karnataka KA-IN operational +878788197367616\n", "waits 60\n")


def test_the_limits_are_the_defaults() -> None:
    rows = re.findall(r"^\| requests .*? \| (\d+) \| (\d+) a (second|minute) \|$", TEXT, re.MULTILINE)
    settings = Settings()
    assert [(int(burst), float(rate), unit) for burst, rate, unit in rows] == [
        (settings.api_burst_per_key, settings.api_rate_per_key, "second"),
        (settings.api_burst_per_address, settings.api_rate_per_address, "second"),
        (settings.api_bad_keys_per_minute, settings.api_bad_keys_per_minute, "minute"),
    ]
