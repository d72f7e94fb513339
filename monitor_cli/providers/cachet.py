"""Cachet: /api/v1/components of version 2, /api/components of version 3 (JSON:API), page by page, and the newest
incidents beside them.

A component has a number for its status, in old versions as text; its word here is the name of Cachet's constant.
Version 3's page shows what the newest open incident says of a component before the component's own status: that is
`latest_status`, or where a release does not list it, what that incident has. After Cachet's own source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

from monitor_cli.errors import SourceError
from monitor_cli.providers.shape import (
    Found,
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
    sibling,
    text,
    with_query,
    worst_of_each,
)
from monitor_cli.types import Component, Incident, Type

NAME = "cachet"

_V2, _V3 = "/api/v1/components", "/api/components"
_AT_ONCE = "100"  # the most that version 3 gives
_MOST_PAGES = 1000
_STATUS = {
    0: ("unknown", Type.WARNING),
    1: ("operational", Type.OPERATIONAL),
    2: ("performance_issues", Type.WARNING),
    3: ("partial_outage", Type.WARNING),
    4: ("major_outage", Type.CRITICAL),
    5: ("unknown", Type.WARNING),
    6: ("under_maintenance", Type.WARNING),
}
_UNKNOWN = 5
_SCHEDULED, _FIXED = 0, 4
_KINDS_V3 = ("components", "incidents", "schedules", "componentGroups")
_FALSE: tuple[Any, ...] = (False, 0, "0", "false")


# --- which documents --------------------------------------------------------------------------------------------------


def fetch(url: str, get: Get) -> list[Any]:
    """Every page of the list, and the newest incidents where they can be read."""
    found = find(url, get, _V2, _V3)
    if not recognises(found.document):
        return [found.document]
    pages = _pages(found, get)
    if found.document["data"] and all(_is_component(entry) for entry in _data(found.document)):
        pages += _incident_pages(found, get)
    return pages


def _pages(first: Found, get: Get) -> list[Any]:
    if not _next(first.document):
        return [first.document]
    # In pages of 100, since many installations count requests; and by id: without an order PostgreSQL gives them as it
    # finds them, so that a component may be on two pages, and another one on none.
    in_order = with_query(first.address, per_page=_AT_ONCE, sort="id")
    try:
        larger = get(in_order)
        if recognises(larger):
            first = Found(in_order, larger)
    except SourceError:
        pass
    pages, seen, address = [first.document], {first.address}, first.address
    while following := _next(pages[-1]):
        # Only its query: behind a proxy Cachet has a wrong idea of its own address, and v3 forgets per_page.
        address = with_query(address, **dict(parse_qsl(following.partition("?")[2].partition("#")[0])))
        if address in seen or len(pages) == _MOST_PAGES:
            raise ShapeError(f"its pages have no end: {len(pages)} were read")
        seen.add(address)
        page = get(address)
        if not recognises(page):
            raise ShapeError(f"page {len(pages) + 1} of its list is something else")
        pages.append(page)
    return pages


def _next(page: dict[str, Any]) -> str:
    """The address of the next page; '' after the last."""
    return text(inner(inner(inner(page, "meta"), "pagination"), "links").get("next_page")) or text(
        inner(page, "links").get("next")
    )


def _incident_pages(found: Found, get: Get) -> list[Any]:
    """The newest incidents, which are listed for ever. Without them there is no title in the history, no more."""
    query = {"sort": "id", "order": "desc"} if _is_v2(found.document) else {"sort": "-id", "include": "components"}
    try:
        page = get(with_query(sibling(found.address, "incidents"), per_page=_AT_ONCE, **query))
    except SourceError:
        return []
    return [page] if recognises(page) else []


# --- what stands in them ----------------------------------------------------------------------------------------------


def recognises(document: Any) -> bool:
    """A list in pages as version 2 has it; JSON:API of components or incidents of version 3."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        return False
    if _is_v2(document):
        return all(isinstance(entry, dict) for entry in document["data"])
    return bool(document["data"]) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("attributes"), dict)
        and (entry.get("type") in _KINDS_V3 or _code_v3(entry["attributes"]) is not None)
        for entry in document["data"]
    )


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every component that is enabled, with the open incident that names it."""
    entries: list[dict[str, Any]] = []
    for document in documents:
        found = objects(an_object(document, "Cachet"), "data")
        if found is None:
            raise ShapeError(f"it has no list of components: give the page's {_V2} (Cachet 3: {_V3})")
        entries += found
    components = [entry for entry in entries if _is_component(entry)]
    if entries and not components:
        raise ShapeError(f"it has no list of components: give the page's {_V2} (Cachet 3: {_V3})")
    incidents = dict(_incidents([entry for entry in entries if not _is_component(entry)]))
    shown = {key: code for document in documents for key, code in _shown(document)}
    read = [_component(entry, place, incidents, shown) for place, entry in enumerate(components, 1) if _enabled(entry)]
    return worst_of_each(read)


def _is_v2(document: dict[str, Any]) -> bool:
    return isinstance(inner(document, "meta").get("pagination"), dict)


def _data(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return inner_objects(document, "data")


def _attributes(entry: dict[str, Any]) -> dict[str, Any]:
    """Of version 3 the attributes; version 2 has them in the entry itself."""
    return inner(entry, "attributes") if isinstance(entry.get("attributes"), dict) else entry


def _is_component(entry: dict[str, Any]) -> bool:
    """Whether it is a component, and no incident, schedule or group."""
    if isinstance(entry.get("type"), str) and "attributes" in entry:
        return bool(entry["type"] == "components")
    own = _attributes(entry)
    others = ("component_id", "message", "scheduled_at", "enabled_components", "occurred_at", "occurred", "collapsed")
    return "status" in own and not any(key in own for key in others)


def _enabled(entry: dict[str, Any]) -> bool:
    return _attributes(entry).get("enabled") not in _FALSE


def _component(entry: dict[str, Any], place: int, incidents: dict[str, Incident], shown: dict[str, int]) -> Component:
    what, own = f"component {place} of its list", _attributes(entry)
    key = identity(entry, "id", what)
    if own is entry:
        code = number(own.get("status"))
    elif (code := _code_v3(own)) is None and _is_null(own.get("status", "")):
        code = _UNKNOWN  # made through the API without one
    if own is not entry and "latest_status" not in own:
        code = shown.get(key, code)
    if code is None:
        raise ShapeError(f"{what} has no status that is a number")
    if code in _STATUS:
        word, kind = _STATUS[code]
        return Component(key, text(own.get("name")), word, kind, True, incidents.get(key))
    word = text(own.get("status_name")) or text(inner(own, "status").get("human")) or f"status {code}"
    return Component(key, text(own.get("name")), word, Type.WARNING, False, incidents.get(key))


def _code_v3(own: dict[str, Any]) -> int | None:
    """The number of the status that version 3's page shows; some releases have it without a human word beside it."""
    for key in ("latest_status", "status"):
        value = own.get(key)
        if (code := number(value.get("value") if isinstance(value, dict) else value)) is not None:
            return code
    return None


def _is_null(status: Any) -> bool:
    return status is None or (isinstance(status, dict) and status.get("value", "") is None)


def _shown(document: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """For each component id the status that the newest incident naming it gives it, where that one is open. What an
    incident includes is there once, as the first in the list has it, and the newest comes first."""
    newest: dict[str, dict[str, Any]] = {}
    for entry in _data(document):
        if entry.get("type") == "incidents":
            for component in inner_objects(inner(inner(entry, "relationships"), "components"), "data"):
                newest.setdefault(inner_key(component, "id"), _attributes(entry))
    for component in inner_objects(document, "included"):
        key = inner_key(component, "id")
        if component.get("type") == "components" and _code_v3(newest.get(key, {})) not in (None, _FIXED):
            given = inner(inner(inner(component, "attributes"), "pivot"), "component_status")
            if (code := number(given.get("value"))) is not None:
                yield key, code


def _incidents(entries: list[dict[str, Any]]) -> Iterator[tuple[str, Incident]]:
    """For each component id the open incidents that name it, the newest last."""
    for entry in sorted(entries, key=lambda entry: number(entry.get("id")) or 0):
        own = _attributes(entry)
        if incident := incident_of(own.get("name"), own.get("permalink")):
            if own is entry and _is_open_v2(own):
                yield inner_key(own, "component_id"), incident
            elif own is not entry and entry.get("type") != "schedules" and _code_v3(own) not in (None, _FIXED):
                for component in inner_objects(inner(inner(entry, "relationships"), "components"), "data"):
                    yield inner_key(component, "id"), incident


def _is_open_v2(own: dict[str, Any]) -> bool:
    code = number(own.get("latest_status"))
    code = number(own.get("status")) if code is None else code
    return code not in (None, _SCHEDULED, _FIXED)  # before 2.4 each has a scheduled_at, whatever it is
