"""Addresses of sources: which can be fetched, where a redirect may lead, and how they are shown to people."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from monitor_cli import safetext
from monitor_cli.errors import SourceError

_QUERY = re.compile(r"([?#])")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(url: str) -> bool:
    """Whether this is an http or https URL with a host."""
    try:
        url.encode()  # bytes that are no text, on a command line
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def shown(url: str) -> str:
    """A URL for people: no user or password, and no query (keys stand there); short and safe to show. A password that
    is not escaped may hold an @, a slash or a question mark: what stands before the last @ is never shown."""
    try:
        urlsplit(url)
    except ValueError:
        return "the URL"
    address, query, rest = _QUERY.split(url, 1) if _QUERY.search(url) else (url, "", "")
    scheme = _SCHEME.match(address)
    start = scheme[0] if scheme else ""
    if "@" in rest:
        return f"{start}…"
    _, at, after = address.rpartition("@")
    return safetext.short(f"{start if at else ''}{after}{'?…' if query == '?' else ''}")


def redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises SourceError where it may not be followed."""
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    if not is_url(target):
        raise SourceError(f"{shown(url)}: redirects to something that is no http or https URL")
    if urlsplit(target).scheme == "http" and urlsplit(url).scheme == "https":
        raise SourceError(f"{shown(url)}: redirects from https down to {shown(target)}")
    return target


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
