"""Instatus: components.json (/v3 or /v2), a bare list of components as older pages have it, or the components of the
API with their children.

summary.json has no components, and its incidents name none. https://instatus.com/help/api documents the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from monitor_cli.providers.shape import Get, ShapeError, an_array, find, identity, judged, required, text, where_there
from monitor_cli.types import Component, Type

NAME = "instatus"

_LISTS = ("/v3/components.json", "/v2/components.json")
_TYPES: dict[str, Type | None] = {
    "OPERATIONAL": Type.OPERATIONAL,
    "UNDERMAINTENANCE": Type.WARNING,
    "DEGRADEDPERFORMANCE": Type.WARNING,
    "PARTIALOUTAGE": Type.WARNING,
    "MINOROUTAGE": Type.WARNING,
    "MAJOROUTAGE": Type.CRITICAL,
}
_PAGE = {"UP", "HASISSUES", "UNDERMAINTENANCE"}
_OWN = {"description", "isParent", "children", "order", "group_id", "nameHtml"}  # Checkly's bare list has none of them


def fetch(url: str, get: Get) -> list[Any]:
    """The list of components, also where the address is that of the summary."""
    found = find(url, get, *_LISTS)
    if _is_summary(found.document):
        page = found.address.partition("?")[0].removesuffix("/summary.json").removesuffix("/v3").removesuffix("/v2")
        listed = where_there([page + place for place in _LISTS], get)
        if listed and recognises(listed.document):
            return [listed.document]
    return [found.document]


def recognises(document: Any) -> bool:
    """A page with one of Instatus's words, or components with one of them."""
    if _is_summary(document):
        return True
    bare = isinstance(document, list)
    entries = document if bare else document.get("components") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "id" in entry for entry in entries):
        return False
    if bare and not any(_OWN & entry.keys() for entry in entries):
        return False
    return any(text(entry.get("status")) in _TYPES for entry in entries)


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every component, with those below it."""
    found: list[Component] = []
    listed = False
    for document in documents:
        if isinstance(document, dict) and document.get("components") is None:
            continue
        entries = document["components"] if isinstance(document, dict) else document
        found += _components(an_array(entries, "its list of components"))
        listed = True
    if not listed:
        raise ShapeError(f"it has no list of components: give the page's {_LISTS[0]}")
    return found


def _is_summary(document: Any) -> bool:
    if not isinstance(document, dict) or "components" in document:
        return False
    page = document.get("page")
    return isinstance(page, dict) and text(page.get("status")) in _PAGE


def _components(entries: list[dict[str, Any]]) -> Iterator[Component]:
    todo = entries[::-1]
    number = 0
    while todo:
        entry, number = todo.pop(), number + 1
        what = f"component {number} of its list"
        word = text(required(entry, "status", what))
        yield judged(identity(entry, "id", what), entry.get("name"), word, _TYPES)
        if (children := entry.get("children")) is not None:
            todo += an_array(children, f"what is below {what}")[::-1]
