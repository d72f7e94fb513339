"""/openapi.json is true: schemathesis tries the API by it, in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from monitor_cli.api import openapi
from monitor_cli.api.app import Application
from monitor_cli.api.reader import Reader
from monitor_cli.db import Database
from tests.support.stores import Store
from tests.support.world import World
from tests.test_api import GOOD, KEY, Client

DOCUMENT = json.loads(openapi.DOCUMENT)


@pytest.fixture
def served(sqlite_database: Store) -> Iterator[Application]:
    world = World(sqlite_database)
    world.server(channel=1, region="ದೆಹಲಿ <&>")
    world.number(world.account("acme", key=KEY), "+1", channel=1)
    reader = Reader(lambda: Database(sqlite_database.url, serving=True))
    yield Application(reader)
    reader.close()


def test_it_is_served_as_it_is(served: Application):
    answer = Client(served)("", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert answer.json == DOCUMENT
    assert DOCUMENT["openapi"] == "3.1.0"


def test_every_path_is_described_and_no_other(served: Application):
    assert set(served._routes) == {*DOCUMENT["paths"], "/v1"}  # SPEC 9: /v1 works as /v1/
    for path, (_, methods, _) in served._routes.items():
        described = {method.upper() for method in DOCUMENT["paths"].get(path, DOCUMENT["paths"]["/v1/"])}
        assert described | {"HEAD"} == set(methods)


@pytest.mark.parametrize("with_key", [True, False])
def test_schemathesis_finds_nothing(served: Application, with_key: bool):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", served)
    seen: set[tuple[str, int]] = set()
    headers = {"Host": "localhost", **({"x-api-key": KEY} if with_key else {})}

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @_given(operation)
        def attempt(case: Any) -> None:
            answer = case.call(headers=headers)
            seen.add((case.operation.path, answer.status_code))
            case.validate_response(answer, checks=_checks(), headers=headers)

        attempt()
    assert ("/metrics", 200) in seen
    assert ("/v1/", 400 if with_key else 401) in seen
    assert (("/v1/", 200) in seen) == with_key


def _given(operation: Any) -> Any:
    from hypothesis import given

    return given(case=operation.as_strategy())


def _checks() -> list[Any]:
    names = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
    return CHECKS.get_by_names(names)


@pytest.mark.parametrize(
    ("query", "environ", "name"),
    [
        (GOOD, {}, "Incidents"),
        ("api_key=empty&method=monitor", {}, "Nothing"),
        ("api_key=idle&method=monitor", {}, "Nothing"),
        (f"api_key={KEY}", {}, "BadRequest"),
        ("", {}, "Unauthorized"),
        (GOOD, {"REQUEST_METHOD": "PUT"}, "MethodNotAllowed"),
    ],
)
def test_answers_have_their_schema(served: Application, sqlite_database: Store, query: str, environ: Any, name: str):
    import jsonschema_rs

    world = World(sqlite_database)
    world.account("empty", key="empty")
    world.account("idle", key="idle", subscribed=False)
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    answer = Client(served)(query, **environ)
    jsonschema_rs.validator_for(schema).validate(answer.json)
