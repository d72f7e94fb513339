"""Statuspal: /api/v2/status_pages/<subdomain>/summary (version 1 has the services in …/status). A component is a
service, with those below it.

A service says what type of incident it is in; null is none. https://statuspal.io/api-docs documents it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from monitor_cli.providers.shape import (
    Get,
    ShapeError,
    an_array,
    an_object,
    find,
    identity,
    incident_of,
    inner_objects,
    judged,
    objects,
    optional,
    text,
)
from monitor_cli.types import Component, Incident, Type

NAME = "statuspal"

_PLACE = "/api/v2/status_pages/"
_NONE = "operational"
_TYPES: dict[str, Type | None] = {
    _NONE: Type.OPERATIONAL,
    "scheduled": Type.WARNING,
    "minor": Type.WARNING,
    "major": Type.CRITICAL,
}
_API = re.compile(r"(?P<page>.*/api/v\d+/status_pages/[^/]+)(?:/(?P<what>[^/]*))?/?")


def fetch(url: str, get: Get) -> list[Any]:
    """The summary, of a page at <subdomain>.statuspal.io or .eu, or of any address of the API below a page's."""
    parts = urlsplit(url)
    hosted = re.fullmatch(r"([\w-]+)\.(statuspal\.(?:io|eu))", parts.hostname or "")
    if hosted and not parts.path.startswith("/api/"):
        return [find(f"https://{hosted[2]}{_PLACE}{hosted[1]}/summary", get).document]
    known = _API.fullmatch(parts.path)
    summary = urlunsplit(parts._replace(path=f"{known['page']}/summary", fragment="")) if known else ""
    if known and not known["what"]:
        return [find(summary, get).document]
    document = find(url, get).document
    if known and recognises(document) and "services" not in document:
        whole = optional([summary], get)
        if whole and recognises(whole.document):
            return [whole.document]
    return [document]


def recognises(document: Any) -> bool:
    """A status_page, or services with what they are in."""
    if not isinstance(document, dict):
        return False
    if isinstance(document.get("status_page"), dict):
        return True
    services = document.get("services")
    return isinstance(services, list) and bool(services) and all(
        isinstance(entry, dict) and "current_incident_type" in entry for entry in services
    )  # fmt: skip


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every service, with the open incident that names it."""
    services: list[dict[str, Any]] = []
    incidents: dict[str, Incident] = {}
    listed = False
    for document in documents:
        if (found := objects(an_object(document, "Statuspal"), "services")) is not None:
            services += found
            listed = True
        for key in ("maintenances", "incidents"):
            incidents.update(_named(inner_objects(document, key)))
    if not listed:
        raise ShapeError(f"it has no list of services: give {_PLACE}<subdomain>/summary")
    return list(_components(services, incidents))


def _components(services: list[dict[str, Any]], incidents: dict[str, Incident]) -> Iterator[Component]:
    todo, place = services[::-1], 0
    while todo:
        entry, place = todo.pop(), place + 1
        what = f"service {place} of its list"
        key, kind = identity(entry, "id", what), entry.get("current_incident_type")
        if "current_incident_type" not in entry or not (kind is None or isinstance(kind, str)):
            raise ShapeError(f"{what} has no current_incident_type that is text or null")
        yield judged(key, entry.get("name"), text(kind) or _NONE, _TYPES, incidents.get(key))
        if (children := entry.get("children")) is not None:
            todo += an_array(children, f"what is below {what}")[::-1]


def _named(entries: Iterator[dict[str, Any]]) -> Iterator[tuple[str, Incident]]:
    """For each service id what has no end, the newest last."""
    open_ones = [entry for entry in entries if not entry.get("ends_at") or entry.get("type") == "scheduled"]
    for entry in sorted(open_ones, key=lambda entry: text(entry.get("starts_at"))):
        ids = entry.get("service_ids")
        if (incident := incident_of(entry.get("title"), entry.get("url"))) and isinstance(ids, list):
            for key in ids:
                if isinstance(key, str | int):
                    yield str(key), incident
