"""HTML that cannot be broken into: every text is escaped unless it was made here.

Names of regions, servers and accounts, and what sources say, come from outside. Characters that do not print (they
could turn the direction of what stands around them) are shown as U+FFFD, and a link is one only for http and https.
"""

from __future__ import annotations

from html import escape
from typing import Any

_VOID = frozenset(("meta", "link", "br"))


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: Any) -> Html:
    """A value as HTML: escaped, unless it is HTML already."""
    if isinstance(value, Html):
        return value
    return Html(escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))))


def join(*parts: Any) -> Html:
    return Html("".join(text(part) for part in parts if part is not None))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. An attribute that is None is left out; class_ is class, aria_label is aria-label."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def outside(value: Any) -> Html:
    """A text from outside, kept apart in its direction."""
    return tag("bdi", "" if value is None else value)


def link(label: str, address: str | None) -> Html:
    """A label that leads to an address, where that is one of the web."""
    if address is None or not address.lower().startswith(("https://", "http://")) or not address.isprintable():
        return outside(label)
    return tag("a", outside(label), href=address, rel="noopener noreferrer")
