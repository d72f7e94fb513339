"""Statuspage's documents, component by component: captured ones, and every shape that they may not have."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_cli import providers
from monitor_cli.errors import SourceError
from monitor_cli.providers import statuspage
from monitor_cli.providers.shape import NotThere, ShapeError
from monitor_cli.types import Component, Incident, Type

TYPES = {
    "operational": Type.OPERATIONAL,
    "degraded_performance": Type.WARNING,
    "partial_outage": Type.WARNING,
    "under_maintenance": Type.WARNING,
    "major_outage": Type.CRITICAL,
}
SUMMARIES = ["claude-summary-2026-09-22", "cloudflare-summary-trimmed-2026-08-07", "twilio-summary-2020-06-16"]


def component(id_: str = "abc", status: Any = "operational", **more: Any) -> dict[str, Any]:
    return {"id": id_, "name": f"name of {id_}", "status": status, **more}


def page(*components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"page": {"id": "p"}, "status": {"indicator": "none"}, "components": list(components), **more}


def one(document: dict[str, Any]) -> Component:
    (found,) = statuspage.parse([document])
    return found


def load(samples: Path, name: str) -> Any:
    return json.loads((samples / "statuspage" / f"{name}.json").read_bytes())


# --- captured documents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_component_of_a_captured_page_has_its_word_and_type(samples: Path, name: str) -> None:
    document = load(samples, name)
    assert statuspage.recognises(document)
    found = providers.read_documents("auto", [document]).components
    expected = [(c["id"], c["name"], c["status"], TYPES[c["status"]], True) for c in document["components"]]
    assert [(c.id, c.name, c.word, c.type, c.known) for c in found] == expected


def test_groups_are_components_and_an_open_incident_does_not_change_a_word(samples: Path) -> None:
    found = {c.id: c for c in statuspage.parse([load(samples, "twilio-summary-2020-06-16")])}
    assert len(found) == 73
    assert found["s2k3h0mkqnth"].type is Type.WARNING  # a group
    named = found["yvvy3vlp4djf"]
    assert (named.word, named.type) == ("operational", Type.OPERATIONAL)
    title = "SMS Delivery Delays from Subset of Twilio Short Codes to US Sprint"
    assert named.incident == Incident(title, "http://stspg.io/xwv6rz0r1yll")
    assert found["kqr83rygcwwf"].incident == Incident(
        "SMS Delivery Delays to Mozambique Movitel", "http://stspg.io/q363nfb5wg00"
    )
    assert found["llgdln3dcs6p"].incident is None  # only a maintenance of the future names it


def test_a_list_of_incidents_alone_says_what_to_give(samples: Path) -> None:
    document = load(samples, "github-incidents-2026-07-30")
    assert statuspage.recognises(document)
    with pytest.raises(ShapeError, match=r"no list of components: give the page's /api/v2/summary\.json"):
        providers.read_documents("auto", [document])


def test_components_and_incidents_may_come_in_two_documents(samples: Path) -> None:
    incidents = {"incidents": [{"name": "T", "status": "investigating", "components": [component("abc")]}]}
    (found,) = providers.read_documents("auto", [page(component("abc")), incidents]).components
    assert found.incident == Incident("T")


# --- words and types --------------------------------------------------------------------------------------------------


def test_an_unknown_word_is_a_warning_and_says_so() -> None:
    found = one(page(component(status="On Fire")))
    assert (found.word, found.type, found.known) == ("On Fire", Type.WARNING, False)


def test_a_word_is_one_clean_line() -> None:
    assert one(page(component(status=" partly\n\ud800down\x00 "))).word == "partly ?down"


def test_ids_are_kept_as_they_are() -> None:
    assert one(page(component(" Ab "))).id == " Ab "


# --- incidents --------------------------------------------------------------------------------------------------------


def incident(name: str, status: str = "investigating", at: str = "2026-01-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    return {"name": name, "status": status, "created_at": at, "components": [component("abc")], **more}


def test_the_newest_open_incident_counts_by_time_and_not_by_text() -> None:
    incidents = [
        incident("old", at="2026-03-01T10:30:00+02:00"),
        incident("new", at="2026-03-01T01:00:00-08:00", shortlink="https://stspg.io/new"),
        incident("over", "resolved", at="2026-04-01T00:00:00Z"),
        incident("told", "postmortem", at="2026-04-01T00:00:00Z"),
        incident("no time", at="soon"),
    ]
    for order in (incidents, incidents[::-1]):
        assert one(page(component("abc"), incidents=order)).incident == Incident("new", "https://stspg.io/new")


def test_an_update_names_components_too() -> None:
    named = incident("u", components=[])
    named["incident_updates"] = [{"affected_components": None}, {"affected_components": [{"code": "abc"}]}]
    assert one(page(component("abc"), incidents=[named])).incident == Incident("u")


@pytest.mark.parametrize(
    ("status", "counts"), [("scheduled", False), ("in_progress", True), ("verifying", True), ("completed", False)]
)
def test_only_a_maintenance_under_way_counts(status: str, counts: bool) -> None:
    document = page(component("abc"), scheduled_maintenances=[incident("m", status, impact="major")])
    assert one(document).incident == (Incident("m") if counts else None)


def test_an_incident_comes_before_a_maintenance() -> None:
    later = incident("m", "in_progress", at="2027-01-01T00:00:00Z")
    document = page(component("abc"), incidents=[incident("i")], scheduled_maintenances=[later])
    assert one(document).incident == Incident("i")


@pytest.mark.parametrize("link", ["javascript:alert(1)", 7, None, ""])
def test_a_link_is_a_web_address(link: Any) -> None:
    assert one(page(component("abc"), incidents=[incident("i", shortlink=link)])).incident == Incident("i")


@pytest.mark.parametrize("nothing", [None, []])
def test_lists_may_be_null_or_empty_but_for_the_components(nothing: Any) -> None:
    assert one(page(component("abc"), incidents=nothing, scheduled_maintenances=nothing)).incident is None
    assert statuspage.parse([{"page": {}, "components": []}]) == []


# --- other shapes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "components",
        {},
        {"components": None},
        {"components": {}},
        {"components": "none"},
        {"components": [None]},
        {"components": [[]]},
        {"components": [{}]},
        {"components": [{"id": "a"}]},
        {"components": [{"id": "a", "status": None}]},
        {"components": [{"id": "a", "status": 100}]},
        {"components": [{"id": 7, "status": "operational"}]},
        {"components": [{"id": "", "status": "operational"}]},
        {"components": [], "incidents": "many"},
        {"components": [], "incidents": [3]},
        {"components": [], "scheduled_maintenances": {"a": 1}},
    ],
)
def test_another_shape_is_refused(document: Any) -> None:
    with pytest.raises(ShapeError):
        statuspage.parse([document])
    with pytest.raises(SourceError):
        providers.read_documents("auto", [document])


@pytest.mark.parametrize(
    "document",
    [
        {"page": {"name": "x", "url": "https://x", "status": "UP"}, "components": []},  # Instatus
        {"data": {"type": "status_page"}, "included": []},
        [{"status_impact": "SERVICE_OUTAGE"}],
        {"meta": {"pagination": {}}, "data": []},
    ],
)
def test_others_are_not_recognised(document: Any) -> None:
    assert not statuspage.recognises(document)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
entry = st.dictionaries(
    st.sampled_from(["id", "name", "status", "created_at", "shortlink", "components", "incident_updates", "code"]),
    anything | st.sampled_from(["abc", "operational", "in_progress", "9999-12-31T23:59:59-23:00"]),
)
shaped = st.dictionaries(
    st.sampled_from(["page", "components", "incidents", "scheduled_maintenances"]),
    anything | st.lists(entry, max_size=4),
)


@given(anything | shaped)
def test_any_json_gives_components_or_one_source_error(document: Any) -> None:
    for parse in (
        lambda: statuspage.parse([document]),
        lambda: providers.read_documents("auto", [document]).components,
    ):
        found: list[Component] = []
        with suppress(ShapeError):
            found = parse()
        assert all(isinstance(c, Component) and c.id and "\n" not in c.word for c in found)


# --- where the document is --------------------------------------------------------------------------------------------


class Site:
    """A `get` that knows some addresses, and notes which it was asked for."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    def get(self, url: str) -> Any:
        self.asked.append(url)
        if url not in self.known:
            raise NotThere(f"{url}: answered HTTP 404")
        return page(component())


SUMMARY = "https://h/api/v2/summary.json"


@pytest.mark.parametrize("name", ["statuspage", "auto"])
@pytest.mark.parametrize(
    ("url", "there", "asked"),
    [
        ("https://h", SUMMARY, [SUMMARY]),
        ("https://h/", SUMMARY, [SUMMARY]),
        ("https://h/#top", SUMMARY, [SUMMARY]),
        (SUMMARY, SUMMARY, [SUMMARY]),
        ("https://h/api/v2/components.json", "https://h/api/v2/components.json", ["https://h/api/v2/components.json"]),
        ("https://h/doc", "https://h/doc", ["https://h/doc"]),
        ("https://h/doc?a=b", "https://h/doc?a=b", ["https://h/doc?a=b"]),
        ("https://h/", "https://h/", [SUMMARY, "https://h/"]),
        ("https://h/p/", "https://h/p/api/v2/summary.json", ["https://h/p/", "https://h/p/api/v2/summary.json"]),
    ],
)
def test_a_page_and_a_document_both_work(name: str, url: str, there: str, asked: list[str]) -> None:
    site = Site(there)
    assert len(providers.read_page(name, url, site.get).components) == 1
    assert site.asked == asked


@pytest.mark.parametrize("name", ["statuspage", "auto"])
@pytest.mark.parametrize(("url", "told"), [("https://h", SUMMARY), ("https://h/p", "https://h/p"), (SUMMARY, SUMMARY)])
def test_where_nothing_is_the_first_address_is_told(name: str, url: str, told: str) -> None:
    with pytest.raises(NotThere, match=f"^{told}: "):
        providers.read_page(name, url, Site().get)
