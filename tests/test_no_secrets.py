"""No secret is anywhere: the commands run with marked secrets, keys and header values, against receivers and pages that
echo what they got; then all that was printed, logged and stored is searched for them."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.engine import make_url
from standardwebhooks import Webhook

from monitor_cli import schema
from tests.support.cli import Cli, Result
from tests.support.http import Answer, Receiver, Request, StatusPage
from tests.support.stores import Store
from tests.support.world import World
from tests.test_api_server import Serving

API_KEY, OLD_KEY = "MARK-api-key/7fe1+x=", "MARK-old-api-key"
HEADER = 'MARK-header "quoted" & <odd>/é'
PLAIN_HEADER = "MARK-plain-header-value"
SOURCE_HEADER, SOURCE_FILE, SOURCE_PASSWORD, SOURCE_QUERY = (
    f"MARK-source-{n}" for n in ("header", "file", "pw", "query")
)
PING = "MARK-ping-uuid"
SECRET_KEY = base64.b64encode(b"MARK: a key of 32 bytes for tests").decode()
_FORMATS = ("text", "json")


class Everything:
    """All that was said, and the needles to search for in it."""

    def __init__(self, cli: Cli, env: Mapping[str, str]) -> None:
        self.cli, self.env = cli, env
        self.said: list[tuple[str, str]] = []
        self.needles: dict[str, str] = {}
        self.runs = 0

    def secret(self, name: str, value: str) -> str:
        self.needles[name] = value
        return value

    def keep(self, where: str, result: Result) -> Result:
        self.said += [(f"{where}: stdout", result.out), (f"{where}: stderr", result.err)]
        return result

    def __call__(self, *command: str, code: int | None = 0, process: bool = False, **env: str) -> None:
        """Run a command with -vv and keep what it said: in both log formats where it logs, else in turns."""
        turn = _FORMATS[self.runs % 2]
        for log_format in _FORMATS if process or code else (turn,):
            args = ("-vv", "--log-format", log_format, *command)
            given = {**self.env, **env}
            result = self.cli.process(*args, env=given) if process else self.cli(*args, env=given)
            self.keep(" ".join(map(ascii, args)), result)
            assert code is None or result.code == code, (command, result.out, result.err)
            assert "internal error" not in result.err
            self.runs += 1

    def found(self, places: list[tuple[str, str]]) -> list[str]:
        hits = []
        for name, secret in self.needles.items():
            for form in forms(secret):
                hits += [f"{name} as {form!r} in {where}" for where, said in places if form in said]
        return hits


def forms(secret: str) -> set[str]:
    """What a secret may look like in a log, an answer or a table."""
    core = secret.removeprefix("whsec_")
    raw = core.encode()
    written = {
        core,
        json.dumps(core)[1:-1],
        json.dumps(core, ensure_ascii=False)[1:-1],
        html.escape(core),
        repr(core)[1:-1],
    }
    written |= {word.replace("/", "\\/") for word in written}
    written |= {
        quote(core, safe=""),
        quote(core),
        quote_plus(core),
        base64.b64encode(raw).decode()[: len(raw) // 3 * 4],
    }
    mark = re.match(r"MARK[\w-]*", core)  # its start alone gives it away
    return written | {json.dumps(word)[1:-1] for word in written} | ({mark[0]} if mark else set())


def tables(store: Store) -> Iterator[tuple[str, str]]:
    """Every value of every table, as text."""
    with store.read() as conn:
        for table in inspect(conn).get_table_names():
            for row in conn.execute(text(f"SELECT * FROM {table}")).mappings():
                for column, value in row.items():
                    plain = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                    yield f"{table}.{column}", plain


def echo(request: Request) -> Answer:
    """A server that gives back what it was sent, in several ways, in its headers too."""
    values = [f"{name}: {value}" for name, value in request.headers if name.startswith(("X-", "Auth", "webhook-"))]
    raw = "\n".join(values).encode("latin-1", "replace").decode("utf-8", "replace")
    said = f"{json.dumps(values)[:600]} {html.escape(raw)}" if request.path.endswith("/json") else raw
    status = 200 if "ok" in request.path else 500
    odd = [("X-Echo", value) for name, value in request.headers if name == "X-Token"]
    return Answer(status, said.encode(), odd)


@pytest.fixture
def receivers(receiver: Receiver) -> Receiver:
    receiver.decide(echo)
    return receiver


def set_up(everything: Everything, receiver: Receiver, world: World, sealed: bool) -> list[int]:
    """An account and its callbacks as people make them: what is printed once becomes a needle."""
    cli, env = everything.cli, everything.env
    made = cli.ok("account", "add", "acme", "--api-key", everything.secret("old API key", OLD_KEY), "--json", env=env)
    assert made.json["api_key"] == OLD_KEY
    key = everything.secret("API key", API_KEY)
    assert cli.ok("account", "rotate-key", "acme", "--api-key", key, "--json", env=env).json["api_key"] == API_KEY
    everything.secret("made API key", cli.ok("account", "add", "other", "--json", env=env).json["api_key"])
    cli.ok("number", "add", "acme", "--channel", "1", "+911", env=env)
    ids = []
    templates = [
        ("/ok", "--raw-json"),
        ("/ok/json", "--payload=data={response}"),
        ("/bad", "--raw-json"),
        ("/bad/json", ""),
    ]
    for path, form in templates:
        url = receiver.url(path) + ("" if form else "?d={response}")
        options = ["--header", f"X-Token: {HEADER}", "--header", f"Authorization: Bearer {PLAIN_HEADER}"]
        command = ("callback", "add", "--account", "acme", "--title", "t", "--name", "n", "--url", url, *options)
        added = cli.ok(*command, *([form] if form else []), "--json", env=env)
        ids.append(added.json["id"])
        everything.secret(f"old secret of {path}", added.json["secret"])
        assert added.err == ""
        rotated = cli.ok("callback", "rotate-secret", str(ids[-1]), "--json", env=env)
        everything.secret(f"secret of {path}", rotated.json["secret"])
    everything.secret("header", HEADER)
    everything.secret("plain header", PLAIN_HEADER)
    return ids


def configuration(everything: Everything, page: StatusPage, receiver: Receiver, folder: Path) -> Path:
    """Two sources: one with every secret that a source can have, and one that is down."""
    for name, value in (
        ("header", SOURCE_HEADER),
        ("file", SOURCE_FILE),
        ("pw", SOURCE_PASSWORD),
        ("query", SOURCE_QUERY),
    ):
        everything.secret(f"source {name}", value)
    (folder / "headers").write_text(f"X-Key: {SOURCE_FILE}\n")
    (folder / "basic").write_text(f"user:{SOURCE_PASSWORD}\n")
    document = {
        "page": {},
        "status": {},
        "components": [{"id": "t1", "name": "n", "status": "odd_word"}],
        "incidents": [],
    }
    url = page.serve("/api/v2/summary.json", document, etag=True)
    down = page.serve("/down", f"{SOURCE_HEADER} {SOURCE_FILE} {SOURCE_QUERY}", 500)
    file = folder / "config.toml"
    file.write_text(f"""
callback_run_ping_url = "{receiver.url("/ping/" + everything.secret("ping", PING))}"
[[sources]]
name = "main"
provider = "statuspage"
url = "{url}?key={SOURCE_QUERY}"
headers = {{ Authorization = "Bearer {SOURCE_HEADER}" }}
headers_file = "{folder}/headers"
[[sources]]
name = "down"
url = "{down.replace("://", f"://user:p@{SOURCE_PASSWORD}@")}?key={SOURCE_QUERY}"
headers = {{ X-Key = "{SOURCE_HEADER}" }}
basic_auth_file = "{folder}/basic"
""")
    return file


def ask_the_api(everything: Everything, log_format: str) -> None:
    args = ("-vv", "--log-format", log_format, "serve-api", "--port", "0", "--workers", "1")
    serving = Serving(everything.cli.start(*args, env=everything.env))
    key = quote(API_KEY, safe="")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    asked = [
        serving(f"/v1/?api_key={key}&method=monitor"),
        serving("/v1/?method=monitor&format=xml", x_api_key=API_KEY),
        serving("/v1/", "POST", f"api_key={key}&method=monitor", **form),
        serving(f"/v1/?api_key={key}&method=odd"),
        serving(f"/v1/?api_key={key}&api_key={key}"),
        serving(f"/v1/?api_key={key}x&method=monitor"),
        serving(f"/v1/?api_key={key}&method=monitor", x_api_key=OLD_KEY),
        serving(f"/{key}"),
        serving("/metrics"),
        serving("/readyz"),
        serving("/openapi.json"),
    ]
    assert [answer.status for answer in asked[:3]] == [200, 200, 200]
    everything.said += [(f"an answer of serve-api: {a.status}", f"{a.headers} {a.body.decode()}") for a in asked]
    everything.keep("serve-api", serving.running.terminate())


def test_no_secret_is_found_anywhere(
    cli: Cli,
    world: World,
    database: Store,
    receivers: Receiver,
    status_page: StatusPage,
    tmp_path: Path,
    make_cli: Callable[[str | None], Cli],
) -> None:
    sealed = database.name != "sqlite"
    env = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8", "MONITOR_MAX_SECONDS": "2", "MONITOR_PROCESSES": "2"}
    everything = Everything(cli, {**env, **({"MONITOR_SECRET_KEY": SECRET_KEY} if sealed else {})})
    everything.secret("secret_key", SECRET_KEY)
    if password := make_url(database.url).password:
        everything.secret("database password", str(password))
    ids = set_up(everything, receivers, world, sealed)
    everything.env = {
        **everything.env,
        "MONITOR_CONFIG": str(configuration(everything, status_page, receivers, tmp_path)),
    }
    server = world.server(channel=1, tag="t1")

    everything("incident-sync", process=True, code=75)
    world.flag(server, "critical")
    everything("callback-run", "--dry-run")
    everything("callback-run", process=True)
    for callback, code in zip(map(str, ids), (0, 0, 1, 1), strict=True):
        everything("callback", "test", callback, code=code)
        everything("callback", "test", callback, "--json", code=code)
        everything("callback", "show", callback, "--json")
    for command in (
        ("callback", "list"),
        ("account", "list"),
        ("delivery", "list"),
        ("source", "list"),
        ("config", "show"),
    ):
        everything(*command)
        everything(*command, "--json")
    for delivery in world.deliveries():
        everything("delivery", "show", str(delivery.id), "--json")
    everything("account", "show", "acme", "--json")
    everything("source", "check", code=75)
    everything("source", "check", "--json", code=75)
    everything("status", "--json")
    everything("check", "--json", code=None)
    everything("config", "check", code=None)
    everything("callback", "replay", "--account", "acme", "--dry-run")
    errors(everything, ids[0], database)
    for log_format in _FORMATS:
        ask_the_api(everything, log_format)

    assert_it_was_there(everything, receivers, status_page, world)
    assert everything.found(everything.said) == []
    assert everything.found(stored(database, sealed)) == []


def errors(everything: Everything, callback: int, database: Store) -> None:
    """An error of each kind, those with secrets on the command line included."""
    header = f"X-Token: {HEADER}"
    everything("account", "add", "third", "--api-key", API_KEY, code=1)  # another's
    everything("account", "add", "third", "--api-key", f"{API_KEY} ", code=2)
    everything("callback", "edit", str(callback), "--header", header, "--header", header, code=2)
    everything("callback", "edit", str(callback), "--header", f"X-Token {PLAIN_HEADER}", code=2)
    everything("callback", "edit", str(callback), "--header", "X-Token:", PLAIN_HEADER, code=2)
    everything("callback", "show", "999", code=1)
    away = "mysql+pymysql://user:MARK-odd-password@127.0.0.1:1/db"
    everything.secret("odd password", "MARK-odd-password")
    everything("callback", "list", code=75, MONITOR_DATABASE_URL=away)
    everything("callback-run", code=75, process=True, MONITOR_DATABASE_URL=away)
    everything("config", "show", "--json", MONITOR_DATABASE_URL=away.replace("odd-", "@odd-"))
    everything("callback", "list", code=78, MONITOR_DATABASE_URL=away.replace("@127", "@@127"))
    everything("callback", "list", code=78, MONITOR_SECRET_KEY="MARK-short-key")
    everything.secret("short key", "MARK-short-key")
    if everything.env.get("MONITOR_SECRET_KEY"):
        everything("callback", "test", str(callback), code=78, MONITOR_SECRET_KEY=SECRET_KEY[::-1].strip("=") + "=")


def stored(database: Store, sealed: bool) -> list[tuple[str, str]]:
    """What the tables hold; without a key but for the columns that have to hold secrets then."""
    kept = {} if sealed else {f"{schema.callback.name}.{column}" for column in ("secret", "old_secret", "headers")}
    found = list(tables(database))
    assert {where.partition(".")[0] for where, _ in found} >= {schema.attempt.name, schema.callback.name}
    return [(where, value) for where, value in found if where not in kept]


def assert_it_was_there(everything: Everything, receiver: Receiver, page: StatusPage, world: World) -> None:
    """What was searched for was sent, echoed and kept: a search that finds nothing proves something."""
    assert everything.runs > 55
    requests = [request for request in receiver.requests if "/ping/" not in request.path]
    assert {request.path for request in requests} == {"/ok", "/ok/json", "/bad", "/bad/json"}
    assert {request.header("X-Token") for request in requests} == {HEADER}
    for request in requests:
        signed = request.body if request.method == "POST" else request.target.encode()
        for which in ("secret", "old secret"):
            headers = {name.lower(): value for name, value in request.headers}
            Webhook(everything.needles[f"{which} of {request.path}"]).verify(signed, headers, json_parse=False)
    assert any(PING in request.path for request in receiver.requests)
    sent = " ".join(f"{request.target} {request.headers}" for request in page.requests)
    assert all(mark in sent for mark in (SOURCE_HEADER, SOURCE_FILE, SOURCE_QUERY))
    assert len([a for a in world.attempts() if a.response and "***" in a.response]) >= 4
    said = " ".join(words for _, words in everything.said)
    assert re.search(r"delivery\.(done|retry)", said)
    assert everything.found([("a line", f"x {quote(HEADER, safe='')} y"), ("another", API_KEY)])  # and it finds
