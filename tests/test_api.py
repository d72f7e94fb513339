"""The incident API as a WSGI callable: the table of SPEC 6, the order of judging, what may be read."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.constants import COMMAND
from sqlalchemy import event
from sqlalchemy.engine import make_url

from monitor_cli import api, migrate, schema
from monitor_cli.api import body as body_room
from monitor_cli.api.app import Application
from monitor_cli.api.reader import REST_SECONDS, Reader
from monitor_cli.db import Database
from tests.support.mariadb import MariaDB
from tests.support.stores import Store
from tests.support.world import World

KEY = "secret-key"
GOOD = f"api_key={KEY}&method=monitor"
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'
UNKNOWN = b'{"status":"401","message":"The API key is missing or unknown"}'
FORM = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/x-www-form-urlencoded"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def told(self) -> tuple[int, str]:
        """HTTP status and the document's own."""
        return self.status, self.json["status"]


class Client:
    """Calls an application as a server that keeps to PEP 3333 does, and holds it to that too."""

    def __init__(self, application: Any) -> None:
        self.application, self.unheld = validator(application), application

    def __call__(self, query: str = "", path: str = "/v1/", body: bytes | None = None, **environ: Any) -> Answer:
        """`CONTENT_LENGTH` may be what no server lets through: then the application is called without the check."""
        application = self.unheld if "CONTENT_LENGTH" in environ else self.application
        started: list[tuple[str, list[tuple[str, str]]]] = []
        whole = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "HTTP_X_REQUEST_ID": "this-one",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body or b""),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **({"CONTENT_LENGTH": str(len(body))} if body is not None else {}),
            **environ,
        }
        result = application(whole, lambda status, headers, exc_info=None: started.append((status, headers)))
        sent = b"".join(result)
        if application is self.application:
            result.close()
        ((status, headers),) = started
        return Answer(int(status.split(" ")[0]), {name.lower(): value for name, value in headers}, sent)


class Counted:
    """Databases opened for serving, and the statements that they were given."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statements: list[str] = []

    def __call__(self) -> Database:
        database = Database(self.url, serving=True)
        event.listen(database.engine, "connect", self._listen)
        return database

    def _listen(self, connection: Any, _record: Any) -> None:
        """At the driver, where every statement comes by, with its parameters in it."""
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(self.statements.append)
            return
        send, prepared = connection._execute_command, []

        def heard(command: int, data: str | bytes) -> Any:
            if command == COMMAND.COM_STMT_PREPARE:
                prepared.append(data)
            elif command == COMMAND.COM_STMT_EXECUTE:  # 14 bytes, then the parameter
                self.statements.append(prepared[-1].replace("?", f"'{data[14:].decode()}'"))
            else:
                self.statements.append(data.decode() if isinstance(data, bytes) else data)
            return send(command, data)

        connection._execute_command = heard


@pytest.fixture
def opened(database: Store) -> Counted:
    return Counted(database.url)


@pytest.fixture
def ask(opened: Counted) -> Iterator[Client]:
    reader = Reader(opened)
    yield Client(Application(reader))
    reader.close()


@pytest.fixture
def acme(world: World) -> int:
    """An account with numbers in two regions; channel 2 has two servers in one of them."""
    world.server(channel=1, final_status="Operational")
    world.server(channel=2, final_status="operational")
    world.server(channel=2, final_status=" Critical ")
    world.server(channel=2, region="ದೆಹಲಿ <&>", region_code=None, final_status="warning")
    world.server(channel=3, final_status=None)
    world.server(channel=4, final_status="on fire")
    account = world.account("acme", key=KEY)
    world.number(account, "+3", "+1", channel=1)
    world.number(account, "+2", channel=2)
    world.number(account, "+4", channel=3)
    world.number(account, "+5", channel=4)
    world.number(account, "+6", channel=99)
    other = world.account("other")
    world.number(other, "+9", channel=1)
    return account


# --- data -------------------------------------------------------------------------------------------------------------


def test_json_to_the_byte(ask: Client, acme: int):
    answer = ask(GOOD)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body.decode() == (
        '{"status":"200","message":"OK","data":{"incidents":['
        '{"region":"karnataka","region_code":"KA-IN","type":"critical","service":"all","numbers":["+2"]},'
        '{"region":"karnataka","region_code":"KA-IN","type":"operational","service":"all","numbers":["+1","+3"]},'
        '{"region":"ದೆಹಲಿ <&>","region_code":"","type":"warning","service":"all","numbers":["+2"]}]}}'
    )


def test_xml_to_the_byte(ask: Client, acme: int):
    answer = ask(GOOD + "&format=xml")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/xml; charset=utf-8"
    assert answer.body.decode() == (
        f"{DECLARATION}<api><status>200</status><message>OK</message><data><incidents>"
        "<monitor><region>karnataka</region><region_code>KA-IN</region_code><type>critical</type>"
        "<service>all</service><numbers><monitor>+2</monitor></numbers></monitor>"
        "<monitor><region>karnataka</region><region_code>KA-IN</region_code><type>operational</type>"
        "<service>all</service><numbers><monitor>+1</monitor><monitor>+3</monitor></numbers></monitor>"
        "<monitor><region>ದೆಹಲಿ &lt;&amp;&gt;</region><region_code></region_code><type>warning</type>"
        "<service>all</service><numbers><monitor>+2</monitor></numbers></monitor></incidents></data></api>"
    )


def test_every_way_to_ask_gives_the_same(ask: Client, acme: int):
    expected = ask(GOOD).body
    assert ask("method=monitor&api%5Fkey=secret%2Dkey&format=json&x=%FF&%FF=1&&=").body == expected
    assert ask(GOOD, "/v1").body == expected
    assert ask("method=monitor", HTTP_X_API_KEY=KEY).body == expected
    assert ask(GOOD, HTTP_X_API_KEY=KEY).body == expected
    assert ask(body=GOOD.encode(), **FORM).body == expected
    assert ask("method=monitor", body=f"api_key={KEY}".encode(), **FORM).body == expected
    assert ask(GOOD, REQUEST_METHOD="POST").body == expected
    assert ask(body=b"method=monitor", HTTP_X_API_KEY=KEY, **FORM).body == expected
    charset = {**FORM, "CONTENT_TYPE": "Application/X-WWW-form-urlencoded; charset=utf-8"}
    assert ask(body=GOOD.encode(), **charset).body == expected


def test_a_body_without_a_length_is_read_where_the_server_ends_it(ask: Client, acme: int):
    chunked = {**FORM, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(GOOD.encode())}
    assert ask(**chunked, **{"wsgi.input_terminated": True}).status == 200
    assert ask(**chunked).told == (401, "401")


def test_keys_may_be_any_text(ask: Client, world: World):
    world.number(world.account("ünïcode", key="schlüssel +&%"), "1")
    world.server(channel=1)
    assert ask("api_key=schl%C3%BCssel+%2B%26%25&method=monitor").status == 200
    raw = "schlüssel +&%".encode().decode("latin-1")
    assert ask("method=monitor", HTTP_X_API_KEY=raw).status == 200


# --- the other rows of the table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("subscribed", [None, False])
def test_not_subscribed(ask: Client, world: World, subscribed: bool | None):
    world.server(channel=1)
    world.number(world.account("acme", key=KEY, subscribed=subscribed), "1")
    answer = ask(GOOD)
    assert (answer.status, answer.body) == (
        200,
        b'{"status":"E542","message":"User Plugin not found or inactive"}',
    )
    assert ask(GOOD + "&format=xml").body.decode() == (
        f"{DECLARATION}<api><status>E542</status><message>User Plugin not found or inactive</message></api>"
    )


def test_nothing_to_list(ask: Client, world: World):
    account = world.account("acme", key=KEY)
    nothing = (200, b'{"status":"E701","message":"No incidents found"}')
    assert ask(GOOD)[::2] == nothing
    world.number(account, "1", channel=1)
    assert ask(GOOD)[::2] == nothing  # a number on a channel without a server
    world.server(channel=1, final_status=None)
    assert ask(GOOD)[::2] == nothing  # a server whose type nobody knows
    world.server(channel=1)
    assert ask(GOOD).told == (200, "200")


@pytest.mark.parametrize(
    "query", ["", "method=monitor", "api_key=&method=monitor", "api_key", "api_key=wrong", "api_key=SECRET-KEY"]
)
def test_a_missing_and_an_unknown_key_are_answered_the_same(ask: Client, acme: int, query: str):
    answer = ask(query)
    assert (answer.status, answer.body) == (401, UNKNOWN)
    assert answer.headers["www-authenticate"] == 'ApiKey realm="incident API"'
    assert answer.headers["cache-control"] == "no-store"


def test_an_unknown_key_in_xml(ask: Client, acme: int):
    assert ask("api_key=wrong&format=xml").body.decode() == (
        f"{DECLARATION}<api><status>401</status><message>The API key is missing or unknown</message></api>"
    )


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (f"api_key={KEY}", "method"),
        (f"api_key={KEY}&method=", "method"),
        (f"api_key={KEY}&method=Monitor", "method"),
        (f"api_key={KEY}&method=monitor&method=monitor", "method"),
        (f"api_key={KEY}&method=%FF", "method"),
        (f"{GOOD}&format=yaml", "format"),
        (f"{GOOD}&format=", "format"),
        (f"{GOOD}&format=xml&format=xml", "format"),
        (f"{GOOD}&format=%C3%28", "format"),
        (f"{GOOD}&api_key={KEY}", "api_key"),
        ("api_key=%FF&method=monitor", "api_key"),
        ("api_key=\u00fc&method=monitor", "api_key"),
        (f"{GOOD}&" + "x=1&" * 200, "query string"),
    ],
)
def test_a_bad_parameter_is_named(ask: Client, acme: int, query: str, part: str):
    answer = ask(query)
    assert answer.told == (400, "400")
    assert part in answer.json["message"]
    assert KEY not in answer.body.decode()


def test_a_bad_method_is_told_in_xml_where_that_was_asked(ask: Client, acme: int):
    assert ask(f"api_key={KEY}&method=x&format=xml").body.decode() == (
        f"{DECLARATION}<api><status>400</status><message>Unknown method; the only method is monitor</message></api>"
    )


def test_header_and_parameter_that_differ(ask: Client, acme: int):
    answer = ask(GOOD, HTTP_X_API_KEY="another")
    assert answer.told == (400, "400")
    assert "x-api-key" in answer.json["message"]
    assert ask("method=monitor", HTTP_X_API_KEY="\xff").told == (400, "400")


@pytest.mark.parametrize("query", ["api_key=wrong&method=x", "method=x&format=y", "api_key=wrong&format=y&format=y"])
def test_the_key_is_judged_first(ask: Client, acme: int, query: str):
    assert ask(query).body == UNKNOWN


@pytest.mark.parametrize(
    ("environ", "part"),
    [
        ({"CONTENT_TYPE": "application/json", "body": b"{}"}, "application/x-www-form-urlencoded"),
        ({"CONTENT_TYPE": "multipart/form-data; boundary=x", "body": b"--x--"}, "application/x-www-form-urlencoded"),
        ({"body": b"x" * (body_room.LIMIT + 1)}, "longer"),
        ({"body": b"api_key=k", "CONTENT_LENGTH": "999"}, "shorter"),
        ({"body": b"x", "CONTENT_LENGTH": "-1"}, "Content-Length"),
        ({"body": b"x", "CONTENT_LENGTH": "9" * 5000}, "Content-Length"),
        ({"body": b"a&" * 200}, "form"),
        ({"body": GOOD.encode() + b"&api_key=other"}, "api_key"),
        ({"body": b"api_key=\xff"}, "api_key"),
    ],
)
def test_a_bad_body_is_told(ask: Client, acme: int, environ: dict[str, Any], part: str):
    answer = ask(**{**FORM, **environ})
    assert answer.told == (400, "400")
    assert part in answer.json["message"]


def test_a_parameter_in_query_and_form_is_repeated(ask: Client, acme: int):
    assert ask("method=monitor", body=GOOD.encode(), **FORM).told == (400, "400")
    assert ask("method=monitor", body=b"api_key=wrong&method=monitor", **FORM).body == UNKNOWN


def test_a_chunked_body_is_bounded(ask: Client, acme: int):
    endless = io.BytesIO(b"x" * 10_000_000)
    chunked = {**FORM, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": endless, "wsgi.input_terminated": True}
    assert ask(**chunked).told == (400, "400")
    assert endless.tell() <= body_room.LIMIT + 1


def test_forms_that_do_not_come_hold_some_threads_and_no_more(ask: Client, acme: int):
    gone, reading = threading.Event(), threading.Barrier(body_room.READERS + 1)

    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reading.wait(30)
            gone.wait(60)
            return b"x"

    def drip() -> None:
        answers.append(ask(body=b"x", **{**FORM, "wsgi.input": Dripping()}))

    answers: list[Answer] = []
    threads = [threading.Thread(target=drip) for _ in range(body_room.READERS)]
    for thread in threads:
        thread.start()
    reading.wait(30)
    busy = ask("format=xml", body=GOOD.encode(), **FORM)
    assert (busy.status, busy.headers["retry-after"]) == (503, "1")
    assert b"<status>503</status><message>Too many forms" in busy.body
    assert ask(GOOD).status == 200
    assert ask(GOOD, REQUEST_METHOD="POST").status == 200
    gone.set()
    for thread in threads:
        thread.join(30)
    assert [answer.status for answer in answers] == [401] * body_room.READERS
    assert ask(body=GOOD.encode(), **FORM).status == 200


def test_a_client_that_goes_away_while_it_sends_is_no_failure_of_ours(ask: Client, acme: int):
    class Gone(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("Input is broken")

    assert ask(body=b"x", **{**FORM, "wsgi.input": Gone()}).told == (400, "400")


@pytest.mark.parametrize("path", ["", "/", "/v1/x", "/v2/", "//v1/", "/V1/", "/v1/\xff", "/healthz/", "/metrics/"])
def test_other_paths(ask: Client, path: str):
    answer = ask(GOOD, path)
    assert (answer.status, answer.body) == (404, b'{"status":"404","message":"Not found"}')


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("/v1/", "PUT", "GET, HEAD, POST"),
        ("/v1", "DELETE", "GET, HEAD, POST"),
        ("/v1/", "OPTIONS", "GET, HEAD, POST"),
        ("/v1/", "get", "GET, HEAD, POST"),
        ("/healthz", "POST", "GET, HEAD"),
        ("/readyz", "PATCH", "GET, HEAD"),
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_other_methods_say_what_is_allowed(ask: Client, path: str, method: str, allow: str):
    answer = ask(GOOD + "&format=xml", path, REQUEST_METHOD=method)
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert answer.body.decode() == (f"{DECLARATION}<api><status>405</status><message>Allowed: {allow}</message></api>")


# --- HEAD, ETag, health -----------------------------------------------------------------------------------------------


def test_head_is_get_without_a_body(ask: Client, acme: int):
    for query in (GOOD, "api_key=wrong", f"api_key={KEY}&method=x"):
        get, head = ask(query), ask(query, REQUEST_METHOD="HEAD")
        assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_etag_and_304(ask: Client, acme: int, world: World):
    first = ask(GOOD)
    etag = first.headers["etag"]
    for tags in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = ask(GOOD, HTTP_IF_NONE_MATCH=tags)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert ask(GOOD, HTTP_IF_NONE_MATCH='"x"').status == 200
    assert ask(GOOD + "&format=xml", HTTP_IF_NONE_MATCH=etag).status == 200
    assert ask(body=GOOD.encode(), HTTP_IF_NONE_MATCH=etag, **FORM).status == 200
    assert ask("api_key=wrong", HTTP_IF_NONE_MATCH="*").status == 401
    world.server(channel=1, final_status="critical")
    changed = ask(GOOD, HTTP_IF_NONE_MATCH=etag)
    assert changed.status == 200
    assert changed.headers["etag"] != etag


def test_health(ask: Client, opened: Counted):
    assert ask("", "/healthz").body == b'{"status":"200","message":"OK"}'
    assert opened.statements == []
    assert ask("", "/readyz").body == b'{"status":"200","message":"OK"}'
    assert opened.statements != []


# --- the database -----------------------------------------------------------------------------------------------------


def test_one_query_a_request_and_none_without_a_key(ask: Client, opened: Counted, acme: int):
    ask(GOOD)  # looks at the revision too
    for query, statements in (
        (GOOD, 1),
        (GOOD + "&format=xml", 1),
        ("api_key=wrong&method=monitor", 1),
        (f"api_key={KEY}&method=x", 1),
        ("", 0),
        ("api_key=&method=monitor", 0),
        (f"{GOOD}&api_key=x", 0),
    ):
        opened.statements.clear()
        ask(query)
        assert len(opened.statements) == statements, query


def test_many_numbers_are_one_query(ask: Client, opened: Counted, world: World):
    account = world.account("acme", key=KEY)
    world.server(channel=1, final_status="warning")
    world.server(channel=1, region="delhi")
    world.number(account, *(f"{n:05}" for n in range(5000)))
    ask(GOOD)
    opened.statements.clear()
    incidents = ask(GOOD).json["data"]["incidents"]
    assert [len(i["numbers"]) for i in incidents] == [5000, 5000]
    assert incidents[0]["numbers"] == sorted(incidents[0]["numbers"])
    assert len(opened.statements) == 1


@pytest.mark.parametrize("odd", ["+1\x1e2", "+1\x1f2", "+1\x1f\x1f\x1f2\x1e"])
def test_numbers_with_the_separators_in_them(ask: Client, opened: Counted, world: World, odd: str):
    world.server(channel=1, final_status="warning")
    world.number(world.account("acme", key=KEY), odd, "+3", channel=1)
    assert ask(GOOD).json["data"]["incidents"][0]["numbers"] == sorted([odd, "+3"])
    assert ask(GOOD + "&format=xml").status == 200
    opened.statements.clear()
    ask(GOOD)
    assert len(opened.statements) == 2


def test_a_text_that_the_server_cuts_off(database: Store, ask: Client, world: World):
    if database.name == "sqlite":
        pytest.skip("SQLite cuts nothing off")
    world.server(channel=1, final_status="warning")
    numbers = [f"+{n}" for n in range(10, 30)]
    world.number(world.account("acme", key=KEY), *numbers, channel=1)
    ask(GOOD)
    whole = len(numbers) * len("+10.karnataka.KA-IN.warning.")
    for length in (4, 50, *range(whole - 30, whole + 2)):
        with ask.unheld._reader._database.engine.connect() as conn:
            conn.exec_driver_sql(f"SET SESSION group_concat_max_len = {length}")
        assert ask(GOOD).json["data"]["incidents"][0]["numbers"] == numbers, length


def test_every_table_is_reached_by_an_index(database: Store, opened: Counted, ask: Client):
    many = range(1, 401)
    accounts = [{"id": n, "name": f"a{n}", "api_key_sha256": hashlib.sha256(b"k%d" % n).hexdigest()} for n in many]
    servers = [
        {"server_id": n, "name": "s", "server_tag": "t", "channel_id": n, "final_status": "warning"} for n in many
    ]
    tables = {
        schema.account: accounts,
        schema.subscription: [{"account_id": n, "active": 1} for n in many],
        schema.number: [{"account_id": n, "number": str(n), "channel_id": n} for n in many],
        schema.monitor: servers,
    }
    with database.write() as conn:
        for table, rows in tables.items():
            conn.execute(table.insert(), rows)
            if database.name != "sqlite":
                conn.exec_driver_sql(f"ANALYZE TABLE {table.name}")
    assert ask("api_key=k7&method=monitor").json["data"]["incidents"][0]["numbers"] == ["7"]
    statement = opened.statements[-1]
    with database.read() as conn:
        if database.name == "sqlite":
            plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            assert "SCAN" not in str(plan)
        else:
            plan = conn.exec_driver_sql(f"EXPLAIN {statement}").mappings().all()
            assert len(plan) == 4
            assert {row["type"] for row in plan} <= {"const", "ref", "eq_ref", "system"}


def test_select_on_the_five_tables_is_enough(database: Store, mariadb: MariaDB, acme: int):
    if database.name != "mariadb":
        pytest.skip("users and GRANTs are MariaDB's")
    url = make_url(database.url)
    tables = [schema.monitor, schema.account, schema.subscription, schema.number]
    names = [*(table.name for table in tables), schema.VERSION_TABLE]
    mariadb.execute(
        "CREATE OR REPLACE USER reader@'%' IDENTIFIED BY 'reader'",
        *(f"GRANT SELECT ON {url.database}.{name} TO reader@'%'" for name in names),
    )
    reader = Reader(Counted(url.set(username="reader", password="reader").render_as_string(hide_password=False)))
    ask = Client(Application(reader))
    assert ask(GOOD).told == (200, "200")
    assert ask(f"api_key={KEY}").told == (400, "400")
    assert ask("", "/readyz").status == 200
    reader.close()


PLATFORM = (
    "CREATE TABLE users (uid INT PRIMARY KEY, login VARCHAR(50) COLLATE latin1_swedish_ci, secret VARCHAR(64),"
    " secret_sha256 CHAR(64) CHARACTER SET ascii GENERATED ALWAYS AS (SHA2(secret, 256)) STORED, KEY (secret_sha256))"
    " CHARACTER SET latin1",
    "CREATE TABLE plugins (uid INT, plugin VARCHAR(50), enabled ENUM('no', 'yes'), KEY (uid))"
    " COLLATE utf8mb4_unicode_ci",
    "CREATE TABLE dids (uid INT, did VARCHAR(20), channel SMALLINT, PRIMARY KEY (uid, did)) COLLATE utf8mb4_general_ci",
    "INSERT INTO users (uid, login, secret) VALUES (7, 'acme', 'secret-key'), (8, 'idle', 'other-key')",
    "INSERT INTO plugins VALUES (7, 'Health Check', 'yes'), (8, 'Health Check', 'no'), (8, 'Billing', 'yes')",
    "INSERT INTO dids VALUES (7, '+1', 1), (7, '+2', 2)",
)
VIEWS = {
    schema.account: "SELECT uid AS id, login AS name, secret_sha256 AS api_key_sha256 FROM users",
    schema.subscription: "SELECT uid AS account_id, enabled = 'yes' AS active FROM plugins"
    " WHERE plugin = 'Health Check'",
    schema.number: "SELECT uid AS account_id, did AS number, channel AS channel_id FROM dids",
}


def test_views_over_a_platform_s_tables_with_mixed_collations(
    database: Store, opened: Counted, ask: Client, world: World
):
    if database.name == "sqlite":
        pytest.skip("collations are MySQL's and MariaDB's")
    world.server(channel=1, final_status="critical")
    with database.write() as conn:
        for table in VIEWS:
            conn.exec_driver_sql(f"DROP TABLE {table.name}")
        for statement in PLATFORM:
            conn.exec_driver_sql(statement)
        for table, query in VIEWS.items():
            conn.exec_driver_sql(f"CREATE VIEW {table.name} AS {query}")
    assert ask(GOOD).json["data"]["incidents"] == [
        {"region": "karnataka", "region_code": "KA-IN", "type": "critical", "service": "all", "numbers": ["+1"]}
    ]
    assert ask("api_key=other-key&method=monitor").told == (200, "E542")
    assert ask("api_key=wrong&method=monitor").told == (401, "401")


def test_nothing_is_written(ask: Client, acme: int, world: World):
    before = [world.rows(table) for table in schema.metadata.sorted_tables]
    ask(GOOD)
    ask("api_key=wrong")
    assert [world.rows(table) for table in schema.metadata.sorted_tables] == before


def test_a_database_not_upgraded_is_503_until_it_is(engine: Store, caplog: pytest.LogCaptureFixture):
    if engine.name == "sqlite":
        engine.database.engine.connect().close()  # an empty file
    clock = Clock()
    reader = Reader(Counted(engine.url), clock)
    ask = Client(Application(reader))
    with package_log(caplog):
        away = ask(GOOD)
        assert away.told == (503, "503")
        assert away.headers["retry-after"] == "5"
        assert ask("", "/readyz").status == 503
        assert ask("", "/healthz").status == 200
        assert ask("").status == 401
        migrate.upgrade(engine.url)
        clock.now += REST_SECONDS
        assert ask("", "/readyz").status == 200
        assert ask(GOOD).status == 401
    reader.close()
    lost, found = caplog.records
    assert (lost.getMessage(), found.getMessage()) == ("api.database_lost", "api.database_found")
    assert "db upgrade" in lost.facts["hint"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class package_log:
    """caplog hears this package, whose logger does not propagate once the command line has configured it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog, self.logger = caplog, logging.getLogger("monitor_cli")

    def __enter__(self) -> None:
        self.caplog.clear()  # requests before it are heard where a test of another file has left them to be logged
        self.level = self.logger.level
        self.logger.setLevel(logging.WARNING)
        self.requests = logging.getLogger("monitor_cli.api.visit")
        self.requests.setLevel(logging.NOTSET)
        self.logger.addHandler(self.caplog.handler)
        self.propagate, self.logger.propagate = self.logger.propagate, False

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)
        self.logger.removeHandler(self.caplog.handler)
        self.logger.propagate = self.propagate


def test_a_database_that_is_killed_is_503_and_heals(own_mariadb: MariaDB, caplog: pytest.LogCaptureFixture):
    url = own_mariadb.create_database()
    migrate.upgrade(url)
    world = World(Database(url))
    world.server(channel=1)
    world.number(world.account("acme", key=KEY), "1")
    clock = Clock()
    reader = Reader(Counted(url), clock)
    ask = Client(Application(reader))
    expected = ask(GOOD)
    assert expected.status == 200
    with package_log(caplog):
        own_mariadb.kill()
        assert ask(GOOD).told == (503, "503")
        assert ask(GOOD + "&format=xml").body.decode() == (
            f"{DECLARATION}<api><status>503</status><message>The database does not answer; try again</message></api>"
        )
        clock.now += REST_SECONDS
        assert ask(GOOD).told == (503, "503")
        own_mariadb.start()
        clock.now += REST_SECONDS
        assert ask(GOOD) == expected
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(GOOD), range(50)))
        own_mariadb.restart()
        for _ in range(12):
            assert ask(GOOD) == expected  # connections that died meanwhile are replaced without a word
    assert {record.getMessage() for record in caplog.records} == {"api.database_lost", "api.database_found"}
    assert "api_key" not in caplog.text
    reader.close()
    world.database.close()


def test_after_a_failure_nobody_dials_for_a_moment(caplog: pytest.LogCaptureFixture):
    dialled = []

    def dial() -> Database:
        dialled.append(1)
        return Database("mysql+pymysql://u:p@127.0.0.1:1/x", serving=True)

    clock = Clock()
    ask = Client(Application(Reader(dial, clock)))
    with package_log(caplog):
        for _ in range(5):
            assert ask(GOOD).status == 503
            clock.now += REST_SECONDS / 5.5
        assert len(dialled) == 1  # and asking did not draw the rest out
        clock.now = REST_SECONDS
        assert ask(GOOD).status == 503
    assert len(dialled) == 2
    assert [record.getMessage() for record in caplog.records] == ["api.database_lost"]


def test_the_public_callable_reads_the_environment_at_its_first_request(
    sqlite_database: Store, monkeypatch: pytest.MonkeyPatch
):
    world = World(sqlite_database)
    world.account("acme", key=KEY)
    monkeypatch.setattr(api, "_application", None)
    monkeypatch.setenv("MONITOR_CONFIG", "/nonexistent/config.toml")
    ask = Client(api.application)
    assert ask(GOOD).told == (503, "503")
    monkeypatch.delenv("MONITOR_CONFIG")
    monkeypatch.setenv("MONITOR_DATABASE_URL", sqlite_database.url)
    assert ask(GOOD).told == (200, "E701")


# --- no input is a failure --------------------------------------------------------------------------------------------

pieces = st.lists(
    st.sampled_from(
        [
            "api_key",
            "method",
            "format",
            "=",
            "&",
            "monitor",
            "xml",
            "json",
            KEY,
            "%",
            "%FF",
            "%00",
            "%C3",
            "+",
            "é",
            "\x00",
        ]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)
octets = st.text(st.characters(max_codepoint=255), max_size=8)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=pieces,
    path=st.sampled_from(["/v1/", "/v1", "/healthz", "/"]) | octets.map(lambda text: "/" + text),
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
    body=st.none() | st.binary(max_size=40) | pieces.map(lambda text: text.encode("utf-8", "replace")),
    headers=st.fixed_dictionaries(
        {},
        optional={
            "HTTP_X_API_KEY": octets,
            "CONTENT_TYPE": octets | st.just("application/x-www-form-urlencoded"),
            "HTTP_IF_NONE_MATCH": octets,
            "HTTP_TRANSFER_ENCODING": octets,
        },
    ),
)
def test_no_input_is_a_5xx(sqlite_database: Store, query: str, path: str, method: str, body: Any, headers: Any):
    reader = Reader(Counted(sqlite_database.url))
    answer = Client(Application(reader))(query, path, body, REQUEST_METHOD=method, **headers)
    reader.close()
    assert answer.status < 500


def test_an_unforeseen_failure_is_a_500_without_a_word_of_it(caplog: pytest.LogCaptureFixture):
    class Broken(Reader):
        def of_key(self, digest: str) -> Any:
            raise RuntimeError("a bug")

    with package_log(caplog):
        answer = Client(Application(Broken(lambda: Database("sqlite://"))))(GOOD)
    assert (answer.status, answer.body) == (500, b'{"status":"500","message":"Internal error"}')
    assert caplog.records[0].getMessage() == "api.failed"
    assert KEY not in caplog.text
