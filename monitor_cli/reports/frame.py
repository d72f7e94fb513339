"""What all pages have: the document with its style and its policy, headings, sections, tables.

Nothing is loaded from anywhere (the Content-Security-Policy says so too), and nothing runs.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from monitor_cli import __version__
from monitor_cli.reports.markup import Html, join, outside, tag
from monitor_cli.reports.style import STYLE
from monitor_cli.reports.window import Window

Row = Mapping[str, Any]


class Head(NamedTuple):
    """What stands above every report."""

    window: Window
    zone: str
    account: str | None
    notes: Sequence[str]


class Column(NamedTuple):
    """A table's column: its heading, how its cells are set (n: figures, t: times, w: words, a: names, head; wide: not
    on a phone), and the cell."""

    label: str
    kind: str
    cell: Any


def page(head: Head, title: str, explained: str, *parts: Any) -> str:
    """The whole document. `explained` stands at its end: how the figures are meant."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    when = f"{_day(head, head.window.since)} – {_day(head, head.window.until)}"
    top = tag(
        "header",
        tag("p", "Health Check", join(" · ", outside(head.account)) if head.account else None, class_="over"),
        tag("h1", title),
        tag("p", f"{when} ({head.zone})", class_="when"),
    )
    notes = tag("div", *(tag("p", _sentence(note)) for note in head.notes), class_="notes", role="note")
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("link", rel="icon", href="data:,"),
            tag("title", f"{title}, {when}"),
            tag("style", Html(STYLE)),
        ),
        tag("body", tag("main", top, parts[0], notes if head.notes else None, *parts[1:], _foot(explained))),
        lang="en",
    )
    return f"<!doctype html>\n{document}\n"


def _foot(explained: str) -> Html:
    return tag("footer", tag("p", explained), tag("p", f"monitor-cli {__version__}"))


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:]


def _day(head: Head, at: int) -> str:
    moment = head.window.local(at)
    clock = "" if moment.time().isoformat() == "00:00:00" else f" {moment:%H:%M}"
    return f"{moment.day} {moment:%B %Y}{clock}"


def moment(head: Head, at: int) -> str:
    """A time by the window's clock; with its year where the window has two."""
    at_local, window = head.window.local(at), head.window
    one_year = window.local(window.since).year == window.local(window.until - 1).year
    return f"{at_local.day} {at_local:%b %H:%M:%S}" if one_year else f"{at_local.day} {at_local:%b %Y %H:%M:%S}"


def section(title: str, *parts: Any) -> Html:
    """A card with a heading."""
    return tag("section", tag("div", tag("h2", title), class_="top"), *parts, class_="card")


def tiles(*facts: tuple[str, Any, str]) -> Html:
    """The figures that come first: name, value, and what it is of."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value), tag("dd", more, class_="small"))
            for name, value, more in facts
        ),
        class_="tiles",
    )


def table(columns: Iterable[Column], rows: Iterable[Row], caption: str | None = None) -> Html:
    """Rows as a table. On a phone each row is a list with the headings beside it; the roles keep it a table to those
    who have it read out."""
    shown = list(columns)
    return tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", _line(tag("th", c.label, scope="col", role="columnheader", class_=c.kind) for c in shown)),
        tag("tbody", *(_line(_cell(column, row) for column in shown) for row in rows)),
        role="table",
    )


def _line(cells: Iterable[Html]) -> Html:
    return tag("tr", *cells, role="row")


def _cell(column: Column, row: Row) -> Html:
    content = tag("span", column.cell(row))
    return tag("td", content, role="cell", class_=column.kind, data_label=column.label)
