"""Status.io: api.status.io/1.0/status/<page id>. Components and their containers are each matched by their own id; a
container stands below several components, and the worst counts.

https://kb.status.io/developers/public-status-api/ documents the codes. The page for people does not say where its
document is, so only https://status.io/pages/<page id> can be followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

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
    number,
    objects,
    text,
    worst_of_each,
)
from monitor_cli.types import Component, Incident, Type

NAME = "statusio"

_API = "https://api.status.io"
_PLACE = "/1.0/status/"
_CODES = {
    100: ("Operational", Type.OPERATIONAL),
    200: ("Planned Maintenance", Type.WARNING),
    300: ("Degraded Performance", Type.WARNING),
    400: ("Partial Service Disruption", Type.WARNING),
    500: ("Service Disruption", Type.CRITICAL),
    600: ("Security Event", Type.WARNING),
}
_TYPES = {word.casefold(): kind for word, kind in _CODES.values()}


def fetch(url: str, get: Get) -> list[Any]:
    """The one document, also of the address that status.io itself has for a page."""
    parts = urlsplit(url)
    page = re.fullmatch(r"/(?:pages?|pages/history)/([0-9a-f]{24})/?", parts.path)
    if not page:
        return [find(url, get).document]
    hosted = (parts.hostname or "").endswith("status.io")
    return [get(f"{_API if hosted else f'{parts.scheme}://{parts.netloc}'}{_PLACE}{page[1]}")]


def recognises(document: Any) -> bool:
    """A result with the status of the page."""
    result = inner(document, "result")
    return isinstance(result.get("status_overall"), dict) or (
        isinstance(result.get("status"), list) and ("incidents" in result or "maintenance" in result)
    )


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every component and every container, with what names it."""
    found: list[Component] = []
    listed = False
    for document in documents:
        result = inner(an_object(document, "Status.io"), "result")
        if (entries := objects(result, "status")) is not None:
            found += _components(entries, _incidents(result))
            listed = True
    if not listed:
        raise ShapeError(f"it has no list of components: give {_API}{_PLACE}<page id>")
    return worst_of_each(found)


def _components(entries: list[dict[str, Any]], incidents: dict[tuple[str, str], Incident]) -> Iterator[Component]:
    for place, entry in enumerate(entries, 1):
        what = f"component {place} of its list"
        key = identity(entry, "id", what)
        yield _component(key, entry, what, incidents.get((key, "")))
        for container in objects(entry, "containers") or ():
            inside = f"a container of {what}"
            own = identity(container, "id", inside)
            yield _component(own, container, inside, incidents.get((key, own)))


def _component(key: str, entry: dict[str, Any], what: str, incident: Incident | None) -> Component:
    """With the page's own word; its code says what it means, since the word may be translated."""
    code, word = number(entry.get("status_code")), text(entry.get("status"))
    if code in _CODES:
        usual, kind = _CODES[code]
        return Component(key, text(entry.get("name")), word or usual, kind, True, incident)
    if not word:
        raise ShapeError(f"{what} has no status that is text, and no known status_code")
    known = _TYPES.get(word.casefold()) if code is None else None
    kind = Type.WARNING if known is None else known
    return Component(key, text(entry.get("name")), word, kind, known is not None, incident)


def _incidents(result: dict[str, Any]) -> dict[tuple[str, str], Incident]:
    """What names a component (its id and ''), or a container below it (both ids): maintenances under way, then open
    incidents, each from old to new."""
    found: dict[tuple[str, str], Incident] = {}
    under_way = list(inner_objects(inner(result, "maintenance"), "active"))
    for events in (under_way, list(inner_objects(result, "incidents"))):
        for event in sorted(events, key=lambda event: text(event.get("datetime_open"))):
            if incident := incident_of(event.get("name")):
                containers = [inner_key(entry, "_id") for entry in inner_objects(event, "containers_affected")]
                for entry in inner_objects(event, "components_affected"):
                    key = inner_key(entry, "_id")
                    found.update({(key, container): incident for container in ["", *containers]})
    return found
