"""Atlassian Statuspage, API v2: summary.json, or its parts (components.json, incidents.json, …) together.

Components are matched by id; groups are components too. The type of a component is that of its own word, whatever
incidents name it: those give the history a title and a link. https://metastatuspage.com/api/v2 documents the format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from monitor_cli.providers.shape import Get, ShapeError, document_at, inner_objects, objects, required, text
from monitor_cli.types import Component, Incident, Type

NAME = "statuspage"

_SUMMARY = "/api/v2/summary.json"
_TYPES = {
    "operational": Type.OPERATIONAL,
    "degraded_performance": Type.WARNING,
    "partial_outage": Type.WARNING,
    "under_maintenance": Type.WARNING,
    "major_outage": Type.CRITICAL,
}
_OVER = {"resolved", "postmortem", "completed"}
_UNDER_WAY = {"in_progress", "verifying"}
_LISTS = ("components", "incidents", "scheduled_maintenances")


def fetch(url: str, get: Get) -> list[Any]:
    """The one document that a page needs."""
    return [document_at(url, _SUMMARY, get)]


def recognises(document: Any) -> bool:
    """A page object beside one of the lists; or incidents alone, as a trimmed incidents.json has them."""
    if not isinstance(document, dict) or not any(isinstance(document.get(key), list) for key in _LISTS):
        return False
    page = document.get("page")
    return (isinstance(page, dict) and not isinstance(page.get("status"), str)) or "incidents" in document


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every component of the page, groups included, with the incident that names it."""
    lists: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        if not isinstance(document, dict):
            raise ShapeError("it is JSON, but not an object as Statuspage has it")
        for key in _LISTS:
            if (found := objects(document, key)) is not None:
                lists.setdefault(key, []).extend(found)
    if "components" not in lists:
        raise ShapeError(f"it has no list of components: give the page's {_SUMMARY}")
    incidents = dict(_incidents(lists.get("incidents", ()), lists.get("scheduled_maintenances", ())))
    return [_component(entry, number, incidents) for number, entry in enumerate(lists["components"], 1)]


def _component(entry: dict[str, Any], number: int, incidents: dict[str, Incident]) -> Component:
    what = f"component {number} of its list"
    key, word = required(entry, "id", what), text(required(entry, "status", what))
    kind = _TYPES.get(word)
    return Component(
        id=key,
        name=text(entry.get("name")),
        word=word,
        type=Type.WARNING if kind is None else kind,
        known=kind is not None,
        incident=incidents.get(key),
    )


def _incidents(
    incidents: Iterable[dict[str, Any]], maintenances: Iterable[dict[str, Any]]
) -> Iterator[tuple[str, Incident]]:
    """For each component id what names it, the one that counts last: maintenances under way, then open incidents, each
    from old to new. What is planned for the future has not happened."""
    open_incidents = [entry for entry in incidents if text(entry.get("status")) not in _OVER]
    under_way = [entry for entry in maintenances if text(entry.get("status")) in _UNDER_WAY]
    for entry in [*sorted(under_way, key=_created), *sorted(open_incidents, key=_created)]:
        if title := text(entry.get("name")):
            link = text(entry.get("shortlink"))
            incident = Incident(title, link if link.startswith(("http://", "https://")) else None)
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
