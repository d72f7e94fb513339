"""This system's own incident API (docs/serving.md), JSON or XML, so that installations can be chained. A component is a
region, by its region_code; where a region has several entries, the worst counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from monitor_cli.providers.shape import (
    Get,
    ShapeError,
    an_array,
    an_object,
    find,
    inner,
    judged,
    number,
    required,
    text,
    with_query,
    worst_of_each,
)
from monitor_cli.types import Component, Type

NAME = "monitor"

_PLACE = "/v1/"
_TYPES: dict[str, Type | None] = {kind.word: kind for kind in Type}


def fetch(url: str, get: Get) -> list[Any]:
    """The one document; the method is added where the address has none."""
    parts = urlsplit(url)
    if parts.path in ("", "/"):
        url = urlunsplit(parts._replace(path=_PLACE))
    if urlsplit(url).path.rstrip("/").endswith("/v1") and "method" not in dict(parse_qsl(parts.query)):
        url = with_query(url, method="monitor")
    return [find(url, get).document]


def recognises(document: Any) -> bool:
    """Status and message, with data or without, in XML below <api>."""
    if isinstance(document, dict) and document.keys() == {"api"}:
        return True
    own = _content(document)
    data = own.get("data")
    if not _status(own) or not isinstance(own.get("message"), str):
        return False
    if isinstance(data, dict):
        return "incidents" in data
    return own.keys() == {"status", "message"} and isinstance(own["status"], str)  # others' errors have a number there


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every region of the account, at its worst type."""
    found: list[Component] = []
    for document in documents:
        own = _content(an_object(document, "the incident API"))
        status = _status(own)
        if status != "200":
            raise ShapeError(f"the incident API answers {status[:10] or 'nothing'}: {text(own.get('message'))[:200]}")
        for place, entry in enumerate(_entries(own), 1):
            what = f"entry {place} of its incidents"
            word = text(required(entry, "type", what))
            if entry.get("region_code") not in ("", None):  # a region without a code can be no server's tag
                found.append(judged(required(entry, "region_code", what), entry.get("region"), word, _TYPES))
    return worst_of_each(found)


def _content(document: Any) -> dict[str, Any]:
    """What is below <api> in XML, which JSON does without."""
    if isinstance(document, dict) and document.keys() == {"api"}:
        return inner(document, "api")
    return document if isinstance(document, dict) else {}


def _status(own: dict[str, Any]) -> str:
    """The status, a text in every version of ours; a program that passes the document on may make a number of it."""
    code = number(own.get("status"))
    return text(own.get("status")) if code is None else str(code)


def _entries(own: dict[str, Any]) -> list[dict[str, Any]]:
    data = own.get("data")
    if not isinstance(data, dict) or "incidents" not in data:
        raise ShapeError("it has no list of incidents: give the incident API's address with method=monitor")
    incidents: object = data["incidents"]
    if isinstance(incidents, dict):  # XML: one <monitor> is no list
        incidents = incidents.get("monitor")
        incidents = [incidents] if isinstance(incidents, dict) else incidents
    return [] if incidents is None else an_array(incidents, "its 'incidents'")
