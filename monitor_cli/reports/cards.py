"""A region's card: its name and share, its timeline, its figures, and what happened in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from monitor_cli.reports import timeline
from monitor_cli.reports.figures import shown_percent
from monitor_cli.reports.frame import Column, Head, Row, moment, table
from monitor_cli.reports.history import Past
from monitor_cli.reports.markup import Html, join, link, outside, tag
from monitor_cli.types import Region
from monitor_cli.words import many, span

INCIDENTS = 20  # of each region that a page shows
LONGEST = 200  # characters of what a source said, for people; CSV and JSON have all of it


def said(reasons: Sequence[Mapping[str, str | None]]) -> str:
    """What sources said of an incident, in one line: their titles, or else their words."""
    texts = dict.fromkeys(_label(reason) for reason in reasons)
    return "; ".join(text for text in texts if text)


def _label(reason: Mapping[str, str | None]) -> str:
    text = reason["title"] or reason["word"] or ""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def legend() -> Html:
    """What the heights and colours of a timeline mean."""
    levels = [(level, word or "not known, or not there") for level, word in enumerate(timeline.LEVELS)]
    order = (1, 2, 3, timeline.UNKNOWN_LEVEL)
    return tag("ul", *(tag("li", timeline.mark(level), levels[level][1]) for level in order), class_="legend")


def least_available(row: Row) -> tuple[bool, float, str, str]:
    """Sorts rows so that the least available come first."""
    share = row["operational_percent"]
    return share is None, share or 0.0, row["region"], row["region_code"]


def region_of(row: Row) -> Region:
    """The region of a report's row."""
    return Region(row["region"], row["region_code"])


def grouped(rows: Iterable[Row]) -> dict[Region, list[Row]]:
    """Rows by their region."""
    found: dict[Region, list[Row]] = defaultdict(list)
    for row in rows:
        found[region_of(row)].append(row)
    return found


def card(head: Head, past: Past, row: Row, incidents: Sequence[Row], number: int, *, facts: bool) -> Html:
    """A region's card. `facts`: with its figures."""
    region = region_of(row)
    name = region.region or region.region_code or "(no region)"
    cells = past.sweep.regions.picture(past.sweep.region(region))
    label = f"{name} {region.region_code}".strip()
    described = (
        f"{shown_percent(row['operational_percent'])} operational, warning for {span(row['warning_seconds'])}, "
        f"critical for {span(row['critical_seconds'])}, {many(row['incidents'], 'incident')}"
    )
    shown = incidents[-INCIDENTS:]
    left = f"the last {len(shown)} of {len(incidents)}" if len(shown) < len(incidents) else ""
    worst = "critical" if row["critical_seconds"] else "warning" if row["warning_seconds"] else "operational"
    return tag(
        "section",
        tag(
            "div",
            tag("h2", outside(name), tag("span", outside(region.region_code), class_="code")),
            tag("p", shown_percent(row["operational_percent"]), class_=f"share {worst}"),
            class_="top",
        ),
        timeline.drawn(cells, head.window, f"t{number}", f"{label} over time", described),
        _facts(row) if facts else None,
        table(_happened(head, shown), shown, f"Incidents{', ' + left if left else ''}") if shown else None,
        class_="card",
    )


def _facts(row: Row) -> Html:
    facts = (
        ("Warning", span(row["warning_seconds"])),
        ("Critical", span(row["critical_seconds"])),
        ("Incidents", row["incidents"]),
        ("Mean time to recovery", span(row["mttr_seconds"])),
        ("Longest", span(row["longest_seconds"])),
        ("Servers", row["servers"]),
    )
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")


def _happened(head: Head, rows: Sequence[Row]) -> list[Column]:
    named = [Column("Server", "head", lambda row: outside(row["name"]))] if any("name" in row for row in rows) else []
    return [
        *named,
        Column("From", "t", lambda row: ("before " if row["began_before"] else "") + moment(head, row["from"])),
        Column("To", "t", lambda row: _end(head, row)),
        Column("Lasted", "n", lambda row: span(row["duration_seconds"])),
        Column("Worst", "t", lambda row: tag("span", row["worst"], class_=row["worst"])),
        Column("What was said", "w", _reasons),
        Column("Concerned", "t", _whom),
        Column("Told", "t", _told),
    ]


def _end(head: Head, row: Row) -> str:
    if row["to"] is None:
        return "still open"
    began, ended = moment(head, row["from"]), moment(head, row["to"])
    day, _, clock = ended.rpartition(" ")
    return clock if began.rpartition(" ")[0] == day else ended


def _whom(row: Row) -> Html:
    return join(many(row["numbers"], "number"), tag("br"), many(row["accounts"], "customer"))


def _told(row: Row) -> str:
    if not row["callbacks"]:
        return "no callbacks"
    after = f", after {span(row['told_p50_seconds'])}" if row["told"] else ""
    return f"{row['told']} of {row['callbacks']}{after}"


def _reasons(row: Row) -> Html:
    labels: dict[tuple[str, str | None], None] = {}
    for reason in row["reasons"]:
        if label := _label(reason):
            labels[label, reason["link"]] = None
    parts = [link(*one) for one in list(labels)[:3]]
    more = [f"and {len(labels) - 3} more"] if len(labels) > 3 else []
    return Html("<br>".join(join(part) for part in [*parts, *more]))
