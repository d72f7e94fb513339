"""Addresses of sources: which can be fetched, where a redirect may lead, and how they are shown to people."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit, urlunsplit

from monitor_cli.errors import SourceError


def is_url(url: str) -> bool:
    """Whether this is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def shown(url: str) -> str:
    """A URL for people: no password, and no query (keys stand there)."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
    except ValueError:
        return "the URL"


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
