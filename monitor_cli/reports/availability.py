"""report availability: of each region and server the time in each type, its incidents, how soon they were mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from monitor_cli.reports.figures import percent, seconds
from monitor_cli.reports.history import Past
from monitor_cli.reports.totals import Figures

FIGURES = (
    "operational_percent",
    "warning_percent",
    "critical_percent",
    "operational_seconds",
    "warning_seconds",
    "critical_seconds",
    "unknown_seconds",
    "incidents",
    "mttr_seconds",
    "longest_seconds",
    "open",
)
REGION_KEYS = ("region", "region_code", "servers", *FIGURES)
SERVER_KEYS = ("id", "server_id", "name", "channel_id", "region", "region_code", "removed", *FIGURES)


def regions(past: Past) -> Iterator[dict[str, Any]]:
    """The regions that were there within the window, sorted. `servers`: those that were in it last."""
    sweep = past.sweep
    sizes = Counter(sweep.region_of(slot) for slot in range(len(past.subjects)))
    for region, number in sweep.region_numbers():
        found = sweep.regions.figures(number)
        if found.known + found.unknown:
            yield {**region._asdict(), "servers": sizes[number], **shown(found)}


def servers(past: Past) -> Iterator[dict[str, Any]]:
    """The servers that were there within the window, by id; then those that were removed."""
    sweep = past.sweep
    names = {number: region for region, number in sweep.region_numbers()}
    for slot, subject in enumerate(past.subjects):
        found = sweep.servers.figures(slot)
        if found.known + found.unknown:
            place = names[sweep.region_of(slot)]
            row = {**subject._asdict(), **place._asdict()}
            yield {**{key: row[key] for key in SERVER_KEYS if key in row}, **shown(found)}


def shown(found: Figures) -> dict[str, Any]:
    """Figures as a report's row has them: shares of the time of which the type is known."""
    known = found.known
    return {
        "operational_percent": percent(found.operational, known),
        "warning_percent": percent(found.warning, known),
        "critical_percent": percent(found.critical, known),
        "operational_seconds": seconds(found.operational),
        "warning_seconds": seconds(found.warning),
        "critical_seconds": seconds(found.critical),
        "unknown_seconds": seconds(found.unknown),
        "incidents": found.incidents,
        "mttr_seconds": seconds(found.mttr),
        "longest_seconds": seconds(found.longest) if found.incidents else None,
        "open": found.open,
    }
