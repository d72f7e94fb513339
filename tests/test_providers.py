"""Every status page product, component by component: captured documents, our own, and every shape that they may not
have; and that none takes another's documents."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor_cli import providers
from monitor_cli.config import Source
from monitor_cli.errors import SourceError
from monitor_cli.providers import PROVIDERS
from monitor_cli.providers.shape import NotThere, ShapeError
from monitor_cli.sources import File, read
from monitor_cli.types import Component, OnlyAffected, Type
from tests.support import pages
from tests.support.pages import PAGES, Page

OK, W, C = Type.OPERATIONAL, Type.WARNING, Type.CRITICAL


def seen(components: list[Component]) -> dict[str, tuple[str, Type | None, str | None]]:
    assert len({c.id for c in components}) == len(components)
    return {c.id: (c.word, c.type, c.incident.title if c.incident else None) for c in components}


# --- our own documents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("auto", [True, False])
def test_every_component_has_its_word_type_and_incident(name: str, auto: bool) -> None:
    page = PAGES[name]
    for documents in (page.documents, page.documents[::-1]):
        found = providers.read_documents("auto" if auto else page.provider, documents).components
        assert seen(found) == page.expected
        assert {c.word for c in found if not c.known} == page.unknown
        assert isinstance(found, OnlyAffected) is page.only_affected


def test_each_product_has_a_page() -> None:
    assert {page.provider for page in PAGES.values()} == set(PROVIDERS)


# --- captured documents -----------------------------------------------------------------------------------------------

STATUSIO_WORDS = {100: ("Operational", OK), 200: ("Planned Maintenance", W)}


def expected_of(provider: str, document: Any) -> dict[str, tuple[str, Type | None]]:
    """What FORMATS.md says of a captured document, by ways of its own."""
    statuspage = {
        "operational": OK,
        "degraded_performance": W,
        "partial_outage": W,
        "under_maintenance": W,
        "major_outage": C,
    }
    if provider in ("statuspage", "incidentio"):
        return {c["id"]: (c["status"], statuspage[c["status"]]) for c in document["components"]}
    if provider == "instatus":
        return {c["id"]: (c["status"], {"OPERATIONAL": OK}[c["status"]]) for c in document["components"]}
    if provider == "cachet":
        return {str(c["id"]): {1: ("operational", OK)}[c["status"]] for c in document["data"]}
    if provider == "betterstack":
        resources = [entry for entry in document["included"] if entry["type"] == "status_page_resource"]
        return {r["id"]: {"operational": ("operational", OK)}[r["attributes"]["status"]] for r in resources}
    if provider == "statusio":
        codes: dict[str, int] = {}
        for entry in document["result"]["status"]:
            for one in (entry, *entry["containers"]):
                codes[one["id"]] = max(one["status_code"], codes.get(one["id"], 0))
        return {key: STATUSIO_WORDS[code] for key, code in codes.items()}
    if provider == "google-cloud":
        assert all(incident["end"] for incident in document)
        return {}
    if provider == "uptime-kuma":
        return {key: {1: ("up", OK)}[beats[-1]["status"]] for key, beats in document["heartbeatList"].items()}
    assert provider == "upptime"
    return {site["slug"]: (site["status"], {"up": OK, "down": C}[site["status"]]) for site in document}


CAPTURED = {
    "betterstack/betterstack-index-trimmed-2026-09-23": 1,
    "cachet/yoti-components-v2-2020-10": 7,
    "google-cloud/incidents-2026-07": 0,
    "incidentio/openai-components-2026-09-29": 36,
    "incidentio/openai-summary-2026-07": 25,
    "instatus/wistia-v3-components-trimmed-2026-09-23": 1,
    "statusio/gitlab-maintenance-2020-09-05": 20,
    "statuspage/claude-summary-2026-09-22": 6,
    "statuspage/cloudflare-summary-trimmed-2026-08-07": 3,
    "statuspage/twilio-summary-2020-06-16": 73,
    "upptime/electisec-summary-2025-08-13": 10,
    "uptime-kuma/heartbeat-2026-08-26": 6,
}
WITHOUT_COMPONENTS = {
    "instatus/wistia-summary-2026-09-23": "give the page's /v3/components.json",
    "statuspage/github-incidents-2026-07-30": "give the page's /api/v2/summary.json",
}


def load(samples: Path, name: str) -> Any:
    return json.loads((samples / f"{name}.json").read_bytes())


@pytest.mark.parametrize("name", CAPTURED)
@pytest.mark.parametrize("auto", [True, False])
def test_captured_component_by_component(samples: Path, name: str, auto: bool) -> None:
    provider = name.partition("/")[0]
    document = load(samples, name)
    found = providers.read_documents("auto" if auto else provider, [document]).components
    assert {c.id: (c.word, c.type) for c in found} == expected_of(provider, document)
    assert len(found) == CAPTURED[name]
    assert all(c.known for c in found)
    assert isinstance(found, OnlyAffected) is (provider == "google-cloud")


@pytest.mark.parametrize("name", WITHOUT_COMPONENTS)
@pytest.mark.parametrize("auto", [True, False])
def test_captured_without_components_says_which_to_give(samples: Path, name: str, auto: bool) -> None:
    provider = "auto" if auto else name.partition("/")[0]
    with pytest.raises(ShapeError, match=f"it has no list of components: {WITHOUT_COMPONENTS[name]}"):
        providers.read_documents(provider, [load(samples, name)])


def test_captured_incidents_are_noted(samples: Path) -> None:
    found = seen(providers.read_documents("auto", [load(samples, "statusio/gitlab-maintenance-2020-09-05")]).components)
    assert found["5b36dc6502d06804c0834a07"] == ("Operational", OK, "500 Error - User Notification Settings")
    assert found["5f4e8819413cdd04b6882c94"] == ("Planned Maintenance", W, "Maintenance on dashboards.gitlab.com")
    assert found["5b36e11140e76c04b7220a31"][:2] == ("Planned Maintenance", W)  # a container of many, the worst


def test_no_captured_document_is_forgotten(samples: Path) -> None:
    there = {f"{file.parent.name}/{file.stem}" for file in samples.glob("*/*.json")}
    assert {name for name in there if not name.startswith("checkly/")} == {*CAPTURED, *WITHOUT_COMPONENTS}


# --- whose a document is ----------------------------------------------------------------------------------------------


def own_documents() -> Iterator[tuple[str, Any]]:
    for page in PAGES.values():
        for path, document in page.serves.items():
            if path != "/api/entry-page":
                yield page.provider, document


def recognised_by(document: Any) -> list[str]:
    return [name for name, provider in PROVIDERS.items() if provider.recognises(document)]


def test_no_provider_takes_anothers_documents() -> None:
    for provider, document in own_documents():
        assert recognised_by(document) == [provider]


def test_no_provider_takes_anothers_captured_documents(samples: Path) -> None:
    for name in [*CAPTURED, *WITHOUT_COMPONENTS]:
        assert recognised_by(load(samples, name)) == [name.partition("/")[0]]
    for file in (samples / "checkly").glob("*.json"):  # a product that is none of ours looks like Instatus
        assert recognised_by(json.loads(file.read_bytes())) == []


WITHOUT = [
    ("statuspage", {"page": {"id": "abc"}, "incidents": []}, "/api/v2/summary.json"),
    ("statuspage", {"page": {"id": "abc"}, "scheduled_maintenances": []}, "/api/v2/summary.json"),
    ("statuspage", {"page": {"id": "abc"}, "status": {"indicator": "none"}}, "/api/v2/summary.json"),
    ("incidentio", {"page": {"id": pages.ulid("PG")}, "incidents": []}, "/api/v2/components.json"),
    ("incidentio", {"page": {"id": pages.ulid("PG")}, "status": {"indicator": "none"}}, "/api/v2/components.json"),
    ("instatus", pages.INSTATUS_SUMMARY, "/v3/components.json"),
    ("cachet", pages.CACHET_V2_INCIDENTS, "/api/v1/components"),
    ("cachet", pages.CACHET_V3_INCIDENTS, "/api/components"),
    ("betterstack", {"data": {"type": "status_page"}, "included": [{"type": "status_report"}]}, "/index.json"),
    ("statusio", {"result": {"status_overall": {}, "incidents": []}}, "api.status.io/1.0/status/<page id>"),
    ("google-cloud", {"products": [{"id": "a", "title": "A"}]}, "incidents.json"),
    ("uptime-kuma", pages.KUMA_PAGE, "/api/status-page/heartbeat/<slug>"),
    ("statuspal", {**pages.STATUSPAL_STATUS, "incidents": []}, "/api/v2/status_pages/<subdomain>/summary"),
]


@pytest.mark.parametrize(("provider", "document", "place"), WITHOUT)
def test_a_document_without_components_says_which_to_give(provider: str, document: Any, place: str) -> None:
    assert recognised_by(document) == [provider]
    for name in ("auto", provider):
        with pytest.raises(ShapeError, match="give ") as caught:
            providers.read_documents(name, [document])
        assert place in caught.value.message


def test_documents_of_several_products_are_said_to_be_that() -> None:
    with pytest.raises(ShapeError, match="the documents are of several products: google-cloud, uptime-kuma"):
        providers.read_documents("auto", [pages.KUMA_PAGE, {"products": [{"id": "a", "title": "A"}]}])


def test_a_page_without_components_yet_is_no_other_shape() -> None:
    for name, document in [
        ("statuspage", {"page": {"id": "abc"}, "components": []}),
        ("betterstack", {"data": {"type": "status_page"}, "included": []}),
        ("betterstack", {"data": {"type": "status_page"}, "included": [{"type": "status_page_section", "id": "1"}]}),
        ("cachet", pages.cachet_v2([])),
    ]:
        for provider in ("auto", name):
            found = providers.read_documents(provider, [document])
            assert (found.provider, list(found.components)) == (name, [])


def test_a_cachet_3_component_without_a_status_is_unknown() -> None:
    """The column may be null: so it is of one that was made through the API without a status."""
    components = {"data": [pages._component_v3(1, 1), pages._component_v3(2, 1), pages._component_v3(3, 1)]}
    components["data"][1]["attributes"]["status"] = {"human": None, "value": None}
    components["data"][2]["attributes"]["status"] = None
    found = providers.read_documents("auto", [components]).components
    assert [(c.id, c.word, c.type, c.known) for c in found] == [
        ("1", "operational", Type.OPERATIONAL, True),
        ("2", "unknown", Type.WARNING, True),
        ("3", "unknown", Type.WARNING, True),
    ]


def test_a_cachet_3_that_lists_no_latest_status_is_read_as_its_page_shows_it() -> None:
    """There the newest open incident's status of the component counts; one that is over says nothing, and of a
    component whose newest incident is over an older one's is not in the document."""
    components = {"data": [pages._component_v3(n, own) for n, own in enumerate((1, 1, 1, 4, 1), 1)]}
    components["data"].append(pages._component_v3(6, 1, 1))
    incidents = {
        "data": [
            pages._incident_v3(9, 1, "Calls fail", 1, 4, 5, 6),
            pages._incident_v3(8, 4, "Over", 2, 3),
            pages._incident_v3(7, 2, "Older", 1, 3),
        ],
        "included": [
            *(pages._component_v3(n, 1, pivot=_pivot(code)) for n, code in ((1, 4), (4, 1), (6, 4), (2, 4), (3, 3))),
            pages._component_v3(5, 1),
            {"id": "1", "type": "users", "attributes": {"pivot": _pivot(2)}},
        ],
    }
    found = providers.read_documents("cachet", [components, incidents]).components
    assert [(c.id, c.word, c.incident and c.incident.title) for c in found] == [
        ("1", "major_outage", "Calls fail"),
        ("2", "operational", None),
        ("3", "operational", "Older"),
        ("4", "operational", "Calls fail"),
        ("5", "operational", "Calls fail"),
        ("6", "operational", "Calls fail"),
    ]


def _pivot(code: int) -> dict[str, Any]:
    return {"component_status": {"human": "Wie", "value": code}}


def test_incidents_of_an_early_cachet_2_give_titles() -> None:
    """Each has a scheduled_at before 2.4, and a status of 0 where it is one for the future."""
    early = {"visible": 1, "message": "m", "scheduled_at": "2015-08-01 12:00:00", "deleted_at": None}
    components = pages.cachet_v2([pages._component_v2(1, "4"), pages._component_v2(2, "1")])
    incidents = pages.cachet_v2(
        [
            {"id": 1, "component_id": 1, "name": "Calls fail", "status": "1", "human_status": "Investigating", **early},
            {"id": 2, "component_id": 1, "name": "Over", "status": 4, "human_status": "Fixed", **early},
            {"id": 3, "component_id": 2, "name": "Next week", "status": 0, "human_status": "Scheduled", **early},
        ]
    )
    found = providers.read_documents("auto", [components, incidents]).components
    assert seen(list(found)) == {"1": ("major_outage", C, "Calls fail"), "2": ("operational", OK, None)}


def test_incident_ios_proxy_with_component_id() -> None:
    """As its structure has it."""
    document = {
        "summary": {
            "components": [{"component_id": "a", "name": "A"}, {"component_id": "b", "name": "B"}],
            "affected_components": [{"component_id": "a", "status": "full_outage"}],
        }
    }
    found = providers.read_documents("auto", [document]).components
    assert seen(list(found)) == {"a": ("full_outage", C, None), "b": ("operational", OK, None)}


def test_our_own_status_may_have_become_a_number() -> None:
    document = {**pages.MONITOR_JSON, "status": 200}
    assert recognised_by(document) == ["monitor"]
    assert len(providers.read_documents("monitor", [document]).components) == 3
    assert recognised_by({"status": 404, "message": "no such page"}) == []  # anybody's error


# --- every other shape ------------------------------------------------------------------------------------------------


def judge(name: str, documents: list[Any]) -> None:
    """Components, or one clear SourceError."""
    found: list[Component] = []
    message = "fine"
    try:
        found = providers.read_documents(name, documents).components
    except SourceError as error:
        message = error.message
    assert message
    assert "\n" not in message
    assert len(message) < 500
    for c in found:
        assert isinstance(c, Component)
        assert c.id
        assert isinstance(c.id, str)
        assert c.word.isprintable()
        assert c.type is None or isinstance(c.type, Type)


def every(documents: list[Any]) -> None:
    for provider in PROVIDERS.values():
        for document in documents:
            assert isinstance(provider.recognises(document), bool)
    for name in ("auto", *PROVIDERS):
        judge(name, documents)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
WRONG = [None, True, False, 0, 1, -1, 10**400, float("nan"), float("inf"), "", "1", " ", "\ud800\n", [], {}, [[]], [{}]]
WRONG += [["a"], {"a": {}}, "9" * 5000, {"id": []}, "http://[", "http://h/?page=\ud800&a=b", "x" * 10_000]


@given(anything)
@settings(deadline=None)
def test_any_json_gives_components_or_one_source_error(document: Any) -> None:
    every([document])


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with something else at a place; without it, for `...`."""
    whole = copy.deepcopy(document)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return whole


OWN = [document for _, document in own_documents()]
OWN_PLACES = [(index, path) for index, document in enumerate(OWN) for path in places(document)]


@given(st.sampled_from(OWN_PLACES), st.sampled_from([..., *WRONG]) | anything)
@settings(max_examples=400, deadline=None)
def test_a_document_with_one_thing_wrong(place: tuple[int, tuple[Any, ...]], value: Any) -> None:
    index, path = place
    every([changed(OWN[index], path, value)])


SERVED = [
    (name, path, place) for name, page in PAGES.items() for path in page.serves for place in places(page.serves[path])
]


@given(st.sampled_from(SERVED), st.sampled_from([..., *WRONG]) | anything, st.data())
@settings(max_examples=300, deadline=None)
def test_a_site_that_serves_one_thing_wrong(served: tuple[str, str, Any], value: Any, data: st.DataObject) -> None:
    """Whatever a document says about the next one."""
    name, path, place = served
    page = PAGES[name]
    documents = {**page.serves, path: changed(page.serves[path], place, value)}

    def get(url: str) -> Any:
        target = url.removeprefix("https://h")
        found = documents.get(target, documents.get(target.partition("?")[0], ...))
        if found is ...:
            raise NotThere(f"{url}: answered HTTP 404")
        return found

    provider, url = data.draw(st.sampled_from(["auto", page.provider])), data.draw(st.sampled_from(page.urls))
    with suppress(SourceError):
        for component in providers.read_page(provider, f"https://h{url}", get).components:
            assert component.id


@given(st.lists(st.sampled_from(OWN), min_size=2, max_size=3))
@settings(deadline=None)
def test_documents_that_do_not_belong_together(documents: list[Any]) -> None:
    every(documents)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_captured_document_with_one_thing_wrong(samples: Path, data: st.DataObject) -> None:
    document = load(samples, data.draw(st.sampled_from([*CAPTURED, *WITHOUT_COMPONENTS])))
    path: tuple[Any, ...] = ()
    inner = document
    while isinstance(inner, dict | list) and inner and (not path or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(sorted(inner)) if isinstance(inner, dict) else st.integers(0, len(inner) - 1))
        path, inner = (*path, key), inner[key]
    if path:
        document = changed(document, path, data.draw(st.sampled_from([..., *WRONG]) | anything))
    every([document])


@pytest.mark.parametrize("name", PAGES)
def test_recursive_documents(name: str) -> None:
    """A value that holds a copy of the whole, 300 levels down: as deep as JSON comes through the reader, and more."""
    page = PAGES[name]
    for document in page.documents:
        for path in list(places(document))[:60]:
            nested: Any = document
            for _ in range(300):
                nested = {"children": [nested], "id": "a", "name": "a"}
            every([changed(document, path, nested)])


def test_children_as_deep_as_they_come() -> None:
    """No parser walks down by recursion."""
    service: Any = {"id": 1, "current_incident_type": None, "children": []}
    component: Any = {"id": "a", "status": "OPERATIONAL", "isParent": False}
    for n in range(5_000):
        service = {"id": n, "current_incident_type": None, "children": [service]}
        component = {"id": str(n), "status": "OPERATIONAL", "children": [component]}
    assert len(PROVIDERS["statuspal"].parse([{"services": [service]}])) == 5_001
    assert len(PROVIDERS["instatus"].parse([[component]])) == 5_001


@pytest.mark.parametrize(
    ("provider", "document", "path", "each"),
    [
        ("statuspage", pages.STATUSPAGE_SUMMARY, "components", 20_000),
        ("incidentio", pages.INCIDENTIO_LIST, "components", 36),
        ("instatus", pages.INSTATUS_LIST, "components", 20_000),
        ("cachet", pages.CACHET_V2_FIRST, "data", 2),
        ("betterstack", pages.BETTERSTACK.documents[0], "included", 10_000),
        ("statuspal", pages.STATUSPAL_SUMMARY, "services", 50_000),
    ],
)
def test_a_huge_document_takes_no_longer_than_it_is_long(provider: str, document: Any, path: str, each: int) -> None:
    many = {**document, path: document[path] * (20_000 // len(document[path]))}
    started = time.monotonic()
    assert PROVIDERS[provider].recognises(many)
    assert len(PROVIDERS[provider].parse([many])) in range(each - 100 if each > 100 else each, each + 1)
    assert time.monotonic() - started < 20  # it takes a fifth of a second; each with each takes minutes


def test_a_truncated_document_is_one_line(samples: Path) -> None:
    for name in CAPTURED:
        body = (samples / f"{name}.json").read_bytes()
        for length in {1, len(body) // 3, len(body) // 2, len(body.rstrip()) - 1}:
            for provider in ("auto", name.partition("/")[0]):
                with pytest.raises(SourceError, match=r"^f\.json: ") as caught:
                    read(Source(name="s", provider=provider), [File("f.json", body[:length])])
                assert "\n" not in caught.value.message
                with suppress(SourceError):
                    read(Source(name="s", provider=provider), [File("f.json", body[length:])])


def _page_of(provider: str) -> Page:
    return next(page for page in PAGES.values() if page.provider == provider)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_wrong_provider_named_is_one_clear_error(provider: str) -> None:
    for other in PROVIDERS:
        judge(provider, _page_of(other).documents)


# --- docs/providers.md ------------------------------------------------------------------------------------------------

DOCS = Path(__file__).resolve().parent.parent / "docs" / "providers.md"


def words_of(provider: str) -> dict[str, Type | None]:
    """The words that a provider's module knows, with their types."""
    module: Any = PROVIDERS[provider]
    if provider == "gatus":
        return {module._UP: OK, module._DOWN: C}
    table = getattr(module, "TYPES", None) or getattr(module, "_TYPES", None) or getattr(module, "_STATUS", None)
    if provider == "statusio":
        table = module._CODES
    assert isinstance(table, dict)
    return table if isinstance(next(iter(table)), str) else dict(table.values())


def test_the_page_of_words_is_what_the_code_does() -> None:
    rows = [line.split("|")[1:-1] for line in DOCS.read_text("utf-8").splitlines() if line.startswith("| `")]
    given_at = {row[0].strip(" `"): row for row in rows[: len(PROVIDERS)]}
    words = {row[0].strip(" `"): row[1:] for row in rows[len(PROVIDERS) :]}
    assert list(given_at) == list(words) == list(PROVIDERS)
    for provider, columns in words.items():
        told = {
            word: kind for kind, column in zip((OK, W, C), columns, strict=True) for word in column.split("`")[1::2]
        }
        assert told == {word: kind for word, kind in words_of(provider).items() if kind is not None}
