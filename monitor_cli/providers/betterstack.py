"""Better Stack (Better Uptime): <page>/index.json, JSON:API. A component is a status_page_resource in `included`.

https://betterstack.com/docs/uptime/api/status-pages/ has the words; not_monitored says nothing about the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from monitor_cli.providers.shape import (
    Get,
    ShapeError,
    an_object,
    find,
    identity,
    incident_of,
    inner,
    inner_key,
    inner_objects,
    judged,
    objects,
    required,
    text,
)
from monitor_cli.types import Component, Incident, Type

NAME = "betterstack"

_INDEX = "/index.json"
_TYPES: dict[str, Type | None] = {
    "operational": Type.OPERATIONAL,
    "degraded": Type.WARNING,
    "maintenance": Type.WARNING,
    "downtime": Type.CRITICAL,
    "not_monitored": None,
}
_RESOURCE = "status_page_resource"


def fetch(url: str, get: Get) -> list[Any]:
    """The one document of a page."""
    return [find(url, get, _INDEX).document]


def recognises(document: Any) -> bool:
    """JSON:API whose data is a status page."""
    return inner(document, "data").get("type") == "status_page"


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every resource of the page, with the open report that names it."""
    listed = False
    resources: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    for document in documents:
        included = objects(an_object(document, "Better Stack"), "included")
        listed |= recognises(document) and included is not None
        for entry in included or ():
            if entry.get("type") == _RESOURCE:
                resources.append(entry)
            elif entry.get("type") == "status_report":
                reports.append(inner(entry, "attributes"))
    if not resources and (reports or not listed):  # a new page has neither; reports alone are not the whole of it
        raise ShapeError(f"it has no resources ({_RESOURCE}): give the page's {_INDEX}")
    return list(_components(resources, reports))


def _components(resources: Sequence[dict[str, Any]], reports: Sequence[dict[str, Any]]) -> Iterator[Component]:
    incidents = dict(_named(reports, maintenance=False))
    maintenances = dict(_named(reports, maintenance=True))
    for number, entry in enumerate(resources, 1):
        what = f"resource {number} of its list"
        key, attributes = identity(entry, "id", what), inner(entry, "attributes")
        word = text(required(attributes, "status", what))
        # A report of a maintenance stands there before it begins.
        incident = incidents.get(key) or (maintenances.get(key) if word == "maintenance" else None)
        yield judged(key, attributes.get("public_name"), word, _TYPES, incident)


def _named(reports: Sequence[dict[str, Any]], *, maintenance: bool) -> Iterator[tuple[str, Incident]]:
    """For each resource id the open report that names it, the newest last. `ends_at` says nothing: it stays null."""
    chosen = [
        report
        for report in reports
        if (report.get("report_type") == "maintenance") is maintenance
        and text(report.get("aggregate_state")) not in ("resolved", "operational")
    ]
    for report in sorted(chosen, key=lambda report: text(report.get("starts_at"))):
        if incident := incident_of(report.get("title")):
            for resource in inner_objects(report, "affected_resources"):
                if resource.get("status") != "resolved":
                    yield inner_key(resource, "status_page_resource_id"), incident
