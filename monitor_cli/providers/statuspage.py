"""Atlassian Statuspage, API v2: summary.json, or its parts (components.json, incidents.json, …) together.

Components are matched by id; groups are components too. The type of a component is that of its own word, whatever
incidents name it: those give the history a title and a link. https://metastatuspage.com/api/v2 documents the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from monitor_cli.providers.shape import (
    Get,
    ShapeError,
    an_object,
    components_of,
    find,
    incident_of,
    inner,
    inner_objects,
    objects,
    text,
)
from monitor_cli.types import Components, Incident, Type

NAME = "statuspage"

_SUMMARY = "/api/v2/summary.json"
TYPES: dict[str, Type | None] = {
    "operational": Type.OPERATIONAL,
    "degraded_performance": Type.WARNING,
    "partial_outage": Type.WARNING,
    "under_maintenance": Type.WARNING,
    "major_outage": Type.CRITICAL,
}
_OVER = {"resolved", "postmortem", "completed"}
_UNDER_WAY = {"in_progress", "verifying"}
_LISTS = ("components", "incidents", "scheduled_maintenances")
_KEYS = {*_LISTS, "status"}
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def fetch(url: str, get: Get) -> list[Any]:
    """The one document that a page needs."""
    return [find(url, get, _SUMMARY).document]


def recognises(document: Any) -> bool:
    """A page object beside one of the lists or the indicator; or the lists alone, as a trimmed incidents.json has
    them."""
    return has_the_form(document) and not is_incident_io(document)


def has_the_form(document: Any) -> bool:
    """The same, also where another product serves it in this form."""
    if not isinstance(document, dict):
        return False
    page, listed = document.get("page"), any(isinstance(document.get(key), list) for key in _LISTS)
    if isinstance(page, dict):
        # Instatus and Checkly have the status there. status.json has no list, but parse can say which document has one.
        return not isinstance(page.get("status"), str) and (listed or "indicator" in inner(document, "status"))
    return listed and page is None and "incidents" in document and document.keys() <= _KEYS


def is_incident_io(document: dict[str, Any]) -> bool:
    """Whether a document of this form is incident.io's: its ids are ULIDs, Statuspage's have 12 characters."""
    entries = chain([document.get("page")], *(inner_objects(document, key) for key in _LISTS))
    found = False
    for entry in entries:
        if isinstance(entry, dict) and "id" in entry:
            found = isinstance(entry["id"], str) and _ULID.fullmatch(entry["id"]) is not None
            if not found:
                break
    return found


def parse(documents: Sequence[Any]) -> Components:
    """Every component of the page, groups included, with the incident that names it."""
    lists: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        for key in _LISTS:
            if (found := objects(an_object(document, "Statuspage"), key)) is not None:
                lists.setdefault(key, []).extend(found)
    if "components" not in lists:
        raise ShapeError(f"it has no list of components: give the page's {_SUMMARY}")
    incidents = dict(_incidents(lists.get("incidents", ()), lists.get("scheduled_maintenances", ())))
    return components_of(lists["components"], TYPES, incidents)


def _incidents(
    incidents: Iterable[dict[str, Any]], maintenances: Iterable[dict[str, Any]]
) -> Iterator[tuple[str, Incident]]:
    """For each component id what names it, the one that counts last: maintenances under way, then open incidents, each
    from old to new. What is planned for the future has not happened."""
    open_incidents = [entry for entry in incidents if text(entry.get("status")) not in _OVER]
    under_way = [entry for entry in maintenances if text(entry.get("status")) in _UNDER_WAY]
    for entry in [*sorted(under_way, key=_created), *sorted(open_incidents, key=_created)]:
        if incident := incident_of(entry.get("name"), entry.get("shortlink")):
            for key in _named(entry):
                yield key, incident


def _named(entry: dict[str, Any]) -> Iterator[str]:
    """The ids of the components that an incident names, in its own list or in an update."""
    for component in inner_objects(entry, "components"):
        yield text(component.get("id"))
    for update in inner_objects(entry, "incident_updates"):
        for component in inner_objects(update, "affected_components"):
            yield text(component.get("code"))


def _created(entry: dict[str, Any]) -> datetime:
    """When it was created; offsets differ within one document."""
    try:
        at = datetime.fromisoformat(text(entry.get("created_at")))
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)
