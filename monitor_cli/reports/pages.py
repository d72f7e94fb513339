"""The reports as pages: one file each that opens anywhere, without scripts, and prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitor_cli.reports import availability as figures
from monitor_cli.reports.cards import card, grouped, least_available, legend, region_of
from monitor_cli.reports.figures import shown_percent
from monitor_cli.reports.frame import Column, Head, Row, page, section, table, tiles
from monitor_cli.reports.history import Past
from monitor_cli.reports.markup import Html, join, outside, tag
from monitor_cli.words import many, span

SERVERS, CALLBACKS = 50, 200  # that a page shows

_OF_TIME = (
    "A region is as its worst server at each moment. Shares are of the time whose type is known, and cut, not rounded: "
    "100 % is always. The mean time to recovery is that of the incidents that ended in this time."
)
_OF_TELLING = (
    "Answers are timed from the request's start to its end. Told is from the change of a status to the answer 2xx that "
    "took it; p50 and p95: half of them, and 95 of 100, took no longer. Failed: retried to the end of the schedule. "
    "Owed: channels whose status is still to be told, now."
)


# --- the reports ------------------------------------------------------------------------------------------------------


def availability(head: Head, past: Past, incidents: Sequence[Row]) -> str:
    """report availability: the regions at a glance, a card for each, the least available first, and the servers that
    were worst."""
    regions = sorted(figures.regions(past), key=least_available)
    by_region = grouped(incidents)
    cards = [card(head, past, row, by_region[region_of(row)], n, facts=True) for n, row in enumerate(regions)]
    servers = sorted(figures.servers(past), key=least_available)
    troubled = [row for row in servers if row["warning_seconds"] or row["critical_seconds"]]
    overview = section("Regions", table(_regions(), regions)) if len(regions) > 1 else None
    return page(
        head,
        "Availability",
        _OF_TIME,
        _sum_of_regions(regions),
        overview,
        legend(),
        *cards,
        _servers(head, servers, troubled),
    )


def incidents(head: Head, past: Past, rows: Sequence[Row]) -> str:
    """report incidents: a card for each region that had one, with what happened, whom it concerned, who was told."""
    by_region = grouped(rows)
    regions = sorted(figures.regions(past), key=least_available)
    cards = [
        card(head, past, row, by_region[region_of(row)], n, facts=False)
        for n, row in enumerate(regions)
        if by_region[region_of(row)]
    ]
    calm = len(regions) - len(cards)
    quiet = tag("p", f"{many(calm, 'region')} had no incident.", class_="when") if calm else None
    return page(head, "Incidents", _OF_TIME, _sum_of_incidents(rows), legend(), *cards, quiet)


def deliveries(head: Head, accounts: Sequence[Row], callbacks: Sequence[Row]) -> str:
    """report deliveries: the accounts, and the callbacks with the most that failed."""
    worst = sorted(
        callbacks, key=lambda row: (row["success_percent"] is None, row["success_percent"], row["callback_id"])
    )
    shown = worst[:CALLBACKS]
    left = f"Of {len(worst)} callbacks, the {len(shown)} that failed most often." if len(worst) > len(shown) else None
    return page(
        head,
        "Deliveries",
        _OF_TELLING,
        _sum_of_deliveries(accounts),
        section("Accounts", table(_TOLD_ACCOUNTS, accounts)),
        section("Callbacks", table(_told_callbacks(), shown), left),
    )


def _regions() -> list[Column]:
    return [
        Column("Region", "head", lambda row: outside(row["region"] or row["region_code"] or "(no region)")),
        Column("Operational", "n", lambda row: shown_percent(row["operational_percent"])),
        Column("Warning", "n wide", lambda row: span(row["warning_seconds"])),
        Column("Critical", "n wide", lambda row: span(row["critical_seconds"])),
        Column("Incidents", "n", lambda row: row["incidents"]),
        Column("Recovery", "n wide", lambda row: span(row["mttr_seconds"])),
        Column("Longest", "n", lambda row: span(row["longest_seconds"])),
    ]


def _servers(head: Head, servers: Sequence[Row], troubled: Sequence[Row]) -> Html | None:
    shown = troubled[:SERVERS]
    well = len(servers) - len(troubled)
    words = f"{many(well, 'server')} of {len(servers)} always operational." if servers else "There were no servers."
    if len(shown) < len(troubled):
        words += f" Of the others, the {len(shown)} least available:"
    columns = [
        Column("Server", "head", lambda row: outside(row["name"])),
        Column("Region", "a", lambda row: outside(row["region_code"] or row["region"])),
        Column("Channel", "n", lambda row: row["channel_id"]),
        Column("Operational", "n", lambda row: shown_percent(row["operational_percent"])),
        Column("Warning", "n", lambda row: span(row["warning_seconds"])),
        Column("Critical", "n", lambda row: span(row["critical_seconds"])),
        Column("Incidents", "n", lambda row: row["incidents"]),
        Column("Recovery", "n", lambda row: span(row["mttr_seconds"])),
        Column("Longest", "n", lambda row: span(row["longest_seconds"])),
    ]
    return section("Servers", tag("p", words, class_="soft"), table(columns, shown) if shown else None)


def _sum_of_regions(regions: Sequence[Row]) -> Html:
    always = sum(1 for row in regions if row["operational_percent"] == 100)
    worst = regions[0] if regions and regions[0]["operational_percent"] != 100 else None
    longest = max((row for row in regions if row["incidents"]), key=lambda row: row["longest_seconds"], default=None)
    return tiles(
        ("Always operational", f"{always} of {len(regions)}", "regions"),
        ("Incidents", sum(row["incidents"] for row in regions), "in all regions"),
        ("Least available", shown_percent(worst["operational_percent"]) if worst else "–", _label(worst)),
        ("Longest incident", span(longest["longest_seconds"]) if longest else "–", _label(longest)),
    )


def _label(row: Row | None) -> Any:
    return "" if row is None else outside(row["region"] or row["region_code"])


def _sum_of_incidents(rows: Sequence[Row]) -> Html:
    longest = max(rows, key=lambda row: row["duration_seconds"], default=None)
    told = sum(row["told"] for row in rows)
    return tiles(
        ("Incidents", len(rows), f"{sum(row['worst'] == 'critical' for row in rows)} critical"),
        ("Still open", sum(row["open"] for row in rows), "at the end of this time"),
        ("Longest", span(longest["duration_seconds"]) if longest else "–", _label(longest)),
        ("Callbacks told", told, f"of {sum(row['callbacks'] for row in rows)}, over all incidents"),
    )


# --- deliveries -------------------------------------------------------------------------------------------------------


def _sum_of_deliveries(accounts: Sequence[Row]) -> Html:
    attempts = sum(row["attempts"] for row in accounts)
    succeeded = sum(row["succeeded"] for row in accounts)
    share = shown_percent(succeeded * 100 / attempts) if attempts else "–"
    slow = max((row["told_p95_seconds"] for row in accounts if row["told_p95_seconds"] is not None), default=None)
    return tiles(
        ("Attempts", attempts, many(len(accounts), "account")),
        ("Successful", share, "answered 2xx"),
        ("Slowest account", span(slow), "from change to told, 95 of 100"),
        ("Still owed", sum(row["owed"] for row in accounts), "channels' status, now"),
    )


def _bar(row: Row) -> Html:
    share = row["success_percent"]
    if share is None:
        return Html("–")
    bar = tag(
        "svg",
        tag("rect", x=0, y=0, width="100%", height="100%", class_="rail"),
        tag("rect", x=0, y=0, width=f"{share:.4g}%", height="100%", class_="c-operational"),
        class_="bar",
        aria_hidden="true",
    )
    return join(shown_percent(share), bar)


def _ms(value: int | None) -> str:
    return "–" if value is None else f"{value} ms"


_TOLD = [
    Column("Attempts", "n", lambda row: row["attempts"]),
    Column("Success", "n", _bar),
    Column("Answer p50", "n", lambda row: _ms(row["latency_p50_ms"])),
    Column("Answer p95", "n", lambda row: _ms(row["latency_p95_ms"])),
    Column("Told p50", "n", lambda row: span(row["told_p50_seconds"])),
    Column("Told p95", "n", lambda row: span(row["told_p95_seconds"])),
    Column("Failed", "n", lambda row: row["failed"]),
    Column("Owed", "n", lambda row: row["owed"]),
]


def _owner(row: Row) -> Html:
    return outside(row["account"]) if row["account"] is not None else tag("span", "removed", class_="soft")


_TOLD_ACCOUNTS = [Column("Account", "head", _owner), Column("Callbacks", "n", lambda row: row["callbacks"]), *_TOLD]


def _told_callbacks() -> list[Column]:
    name = Column("Callback", "head", lambda row: join(outside(row["name"] or ""), f" #{row['callback_id']}"))
    return [name, Column("Account", "a", _owner), *_TOLD]
