"""Gatus: /api/v1/endpoints/statuses, an array; in old versions /api/v1/statuses, an object. A component is matched by
its key.

The newest result comes last, and its `success` is the status: its words here are those of Gatus's health badge. An
endpoint without results keeps its row's status. After Gatus's own source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from monitor_cli.providers.shape import Get, ShapeError, an_array, find, text
from monitor_cli.types import Component, Type

NAME = "gatus"

_PLACE = "/api/v1/endpoints/statuses"
_NEWEST = "?page=1&pageSize=1"  # the pages are those of each endpoint's results
_UP, _DOWN, _UNKNOWN = "up", "down", "?"
_JOINED = re.compile(r"[/_.,\s#+&]")


def fetch(url: str, get: Get) -> list[Any]:
    """The one document, with one result of each endpoint where the server can do that."""
    return [find(url, get, _PLACE + _NEWEST, _PLACE, "/api/v1/statuses").document]


def recognises(document: Any) -> bool:
    """Endpoints with their results, in an array or by their keys."""
    entries = list(document.values()) if isinstance(document, dict) else document
    return isinstance(entries, list) and bool(entries) and all(
        isinstance(entry, dict)
        and "results" in entry
        and "name" in entry
        and isinstance(entry["results"], list | None)
        and ("key" in entry or isinstance(document, dict))
        for entry in entries
    )  # fmt: skip


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every endpoint."""
    found: list[Component] = []
    for document in documents:
        for key, entry in _endpoints(document):
            found.append(_component(key, entry))
    return found


def _endpoints(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(document, dict) and not all(isinstance(entry, dict) for entry in document.values()):
        raise ShapeError(f"it is no list of endpoints: give {_PLACE}")
    entries = document.items() if isinstance(document, dict) else (("", entry) for entry in an_array(document, "it"))
    for place, (key, entry) in enumerate(entries, 1):
        own = text(entry.get("key")) or key or _key_of(entry)
        if not own:
            raise ShapeError(f"endpoint {place} of its list has no key and no name that is text")
        if "results" not in entry:
            raise ShapeError(f"endpoint {place} of its list has no results: give {_PLACE}")
        yield own, entry


def _key_of(entry: dict[str, Any]) -> str:
    """The key as Gatus makes it of group and name."""
    group, name = text(entry.get("group")), text(entry.get("name"))
    return f"{_JOINED.sub('-', group.lower())}_{_JOINED.sub('-', name.lower())}" if name else ""


def _component(key: str, entry: dict[str, Any]) -> Component:
    results = entry["results"]
    if not results and (results is None or isinstance(results, list)):
        return Component(key, _name(entry), _UNKNOWN, None)
    newest = an_array(results, f"what endpoint {text(key)} has as results")[-1]
    success: object = newest.get("success")
    if not isinstance(success, bool):
        raise ShapeError(f"the newest result of endpoint {text(key)} does not say whether it was a success")
    return Component(key, _name(entry), _UP if success else _DOWN, Type.OPERATIONAL if success else Type.CRITICAL)


def _name(entry: dict[str, Any]) -> str:
    return "/".join(filter(None, (text(entry.get("group")), text(entry.get("name")))))
