"""incident.io: components.json in Statuspage's form, the widget's /api/v1/summary, or what /proxy/<host> answers.

The summary in Statuspage's form is cut at 25 components, so the list comes from components.json. The widget lists only
what is affected. Incidents in Statuspage's form name no components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from monitor_cli.providers import statuspage
from monitor_cli.providers.shape import (
    Get,
    ShapeError,
    an_object,
    components_of,
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
    where_there,
    worst_of_each,
)
from monitor_cli.types import Component, Incident, OnlyAffected, Type

NAME = "incidentio"

_API = "/api/v2/"
_LIST, _SUMMARY, _WIDGET = _API + "components.json", _API + "summary.json", "/api/v1/summary"
_TYPES: dict[str, Type | None] = {**statuspage.TYPES, "full_outage": Type.CRITICAL}
_ONGOING, _UNDER_WAY = "ongoing_incidents", "in_progress_maintenances"


def fetch(url: str, get: Get) -> list[Any]:
    """The whole list, where the page's or the given document is of the form that may be cut."""
    found = find(url, get, _SUMMARY, _LIST, _WIDGET)
    base, api, name = found.address.partition(_API)
    if not api or name == "components.json" or not recognises(found.document):
        return [found.document]
    # A list that cannot be read now is no reason to take the one that may be cut for all of it.
    whole = where_there([base + _LIST], get)
    if whole and not isinstance(inner({"": whole.document}, "").get("components"), list):
        raise ShapeError("it has no list of components", whole.address)
    return [whole.document] if whole and recognises(whole.document) else [found.document]


def recognises(document: Any) -> bool:
    """ULIDs in Statuspage's form (its components.json has no page), the widget's lists, or the proxy's summary."""
    if not isinstance(document, dict):
        return False
    if _is_widget(document) or _is_proxy(document):
        return True
    form = statuspage.has_the_form(document) or document.keys() == {"components"}
    return form and statuspage.is_incident_io(document)


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every component; of the widget's document alone those that are affected."""
    found: list[Component] = []
    listed = affected = False
    for document in documents:
        whole = an_object(document, "incident.io")
        if _is_widget(whole):
            found += _affected(whole)
            affected = True
            continue
        proxied = _is_proxy(whole)
        if (components := objects(whole["summary"] if proxied else whole, "components")) is not None:
            if proxied:
                current = _current(whole["summary"])
                found += [_component(entry, number, current) for number, entry in enumerate(components, 1)]
            else:
                found += components_of(components, _TYPES, {})
            listed = True
    if not listed and not affected:
        raise ShapeError(f"it has no list of components: give the page's {_LIST}")
    each = worst_of_each(found)
    return each if listed else OnlyAffected(each)


def _is_widget(document: dict[str, Any]) -> bool:
    return isinstance(document.get(_ONGOING), list) or isinstance(document.get(_UNDER_WAY), list)


def _is_proxy(document: dict[str, Any]) -> bool:
    summary = inner(document, "summary")
    return isinstance(summary.get("components"), list) and ("affected_components" in summary or _ONGOING in summary)


def _component(entry: dict[str, Any], place: int, current: dict[str, tuple[str, Incident | None]]) -> Component:
    """With the word of the list, or where it is among what is affected at present with the one there."""
    key = required(entry, "component_id" if "id" not in entry else "id", f"component {place} of its list")
    word, incident = current.get(key, ("", None))
    usual = text(entry.get("status")) or OnlyAffected.ABSENT.word
    return judged(key, entry.get("name"), word or usual, _TYPES, incident)


# --- what is affected -------------------------------------------------------------------------------------------------


def _affected(document: dict[str, Any]) -> Iterator[Component]:
    """Of the widget's document what maintenances under way and incidents name, as it is now."""
    for key, usual in ((_ONGOING, "degraded_performance"), (_UNDER_WAY, "under_maintenance")):
        for event in objects(document, key) or ():
            incident = incident_of(event.get("name"), event.get("url"))
            for entry in objects(event, "affected_components") or ():
                word = text(entry.get("current_status")) or text(event.get("current_worst_impact")) or usual
                own = identity(entry, "id", "an affected component")
                yield judged(own, entry.get("name"), word, _TYPES, incident)


def _current(summary: dict[str, Any]) -> dict[str, tuple[str, Incident | None]]:
    """Of the proxy's document, for each component id that is affected: its present word, and what names it.

    An incident's own `status` of a component is the worst that it had, so `current_status` comes first."""
    found: dict[str, tuple[str, Incident | None]] = {}
    for event in inner_objects(summary, _ONGOING):
        incident = incident_of(event.get("name"), event.get("url"))
        for entry in inner_objects(event, "affected_components"):
            found[inner_key(entry, "component_id")] = (text(entry.get("current_status")), incident)
    for entry in inner_objects(summary, "affected_components"):
        key = inner_key(entry, "component_id")
        word = text(entry.get("current_status")) or text(entry.get("status"))
        found[key] = (word, found.get(key, ("", None))[1])
    return found
