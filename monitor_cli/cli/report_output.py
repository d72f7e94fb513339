"""How reports are printed: a table for people, CSV for a spreadsheet, one JSON object for programs; or a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from monitor_cli.cli.output import cell, print_rows, say_on_terminal
from monitor_cli.errors import MonitorError
from monitor_cli.reports import pages
from monitor_cli.reports.cards import said
from monitor_cli.reports.figures import shown_percent
from monitor_cli.reports.frame import Head
from monitor_cli.reports.history import Past
from monitor_cli.reports.incidents import REASON_KEYS
from monitor_cli.reports.window import Window
from monitor_cli.safetext import to_json
from monitor_cli.wholefile import write_whole
from monitor_cli.words import iso, span

FORMS = ("table", "csv", "json")
_TIMES = frozenset(("from", "to", "owed_since"))
_FORMULA = tuple(
    "=+-@\t\r\n＝＋－＠"
)  # wide ones too: where Chinese and Japanese are typed they are taken for the others
Rows = Callable[[], Iterator[dict[str, Any]]]


class Report(NamedTuple):
    """A report's parts by name: their keys, and what gives their rows. Times in rows are milliseconds since 1970."""

    name: str
    window: Window
    account: str | None
    notes: list[str]
    parts: Mapping[str, tuple[Sequence[str], Rows]]


def show(report: Report, form: str) -> None:
    """Print it; '': nothing. What has to be known beside it goes to stderr, in JSON it is in `notes`."""
    if form == "json":
        _json(report)
        return
    if form == "csv":
        _csv(report)
    elif form == "table":
        _table(report)
    if form:
        for note in report.notes:
            click.echo(f"note: {note}", err=True)


def shown_time(at: int | None, window: Window) -> str:
    """A moment for people, by the window's clock: 2026-10-01 00:00:00+05:30."""
    return "" if at is None else window.local(at).isoformat(" ", timespec="seconds")


# --- JSON, CSV --------------------------------------------------------------------------------------------------------


def _json(report: Report) -> None:
    """One object, printed row by row."""
    head = {
        "report": report.name,
        "since": iso(report.window.since),
        "until": iso(report.window.until),
        "timezone": zone_name(report.window),
        "account": report.account,
        "notes": report.notes,
    }
    click.echo("{\n" + ",\n".join(f'  "{key}": {to_json(value)}' for key, value in head.items()), nl=False)
    for name, (keys, rows) in report.parts.items():
        click.echo(f',\n  "{name}": [', nl=False)
        comma = ""
        for row in rows():
            ordered = {key: iso(row[key]) if key in _TIMES else row[key] for key in keys}
            click.echo(f"{comma}\n    {to_json(ordered)}", nl=False)
            comma = ","
        click.echo("\n  ]" if comma else "]", nl=False)
    click.echo("\n}")


def zone_name(window: Window) -> str:
    return getattr(window.zone, "key", None) or "UTC"


def _csv(report: Report) -> None:
    """All parts in one file: the first column says which part a line is of."""
    columns = list(dict.fromkeys(key for keys, _ in report.parts.values() for key in keys if key != "reasons"))
    reasons = any("reasons" in keys for keys, _ in report.parts.values())
    header = ["part", *columns, *(REASON_KEYS if reasons else ())]
    _csv_line(header)
    for name, (_, rows) in report.parts.items():
        for row in rows():
            values = [_csv_value(key, row.get(key), report.window) for key in columns]
            if reasons:
                values += [_joined(row["reasons"], key) for key in REASON_KEYS]
            _csv_line([name, *values])


def _csv_line(values: Sequence[Any]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_harmless(value) for value in values])
    click.echo(line.getvalue(), nl=False)


def _csv_value(key: str, value: Any, window: Window) -> Any:
    if key in _TIMES and value is not None:
        return window.local(value).isoformat(timespec="milliseconds")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


def _joined(reasons: Sequence[Mapping[str, Any]], key: str) -> str:
    return "; ".join(dict.fromkeys(reason[key] for reason in reasons if reason[key]))


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a ' before it (OWASP, CSV injection)."""
    return "'" + value if isinstance(value, str) and value[:1] in _FORMULA else value


# --- tables -----------------------------------------------------------------------------------------------------------

_FIGURES = ("operational", "warning", "critical", "incidents", "mttr", "longest")
_TOLD = ("attempts", "success", "p50", "p95", "told p50", "told p95", "failed", "owed")
_COLUMNS = {
    "regions": ("region", "region_code", "servers", *_FIGURES),
    "servers": ("id", "name", "channel_id", "region", "region_code", *_FIGURES),
    "accounts": ("account", "callbacks", *_TOLD),
    "callbacks": ("callback_id", "account", "name", *_TOLD),
    "incidents": (
        *("region", "region_code", "name", "from", "to", "duration", "worst", "servers", "numbers", "accounts"),
        *("told", "p50", "said"),
    ),
}
_WIDTH = len("59 min 59 s")
_RIGHT = frozenset((*_FIGURES, *_TOLD, "servers", "callbacks", "duration", "numbers", "accounts", "told", "p50"))


def _table(report: Report) -> None:
    window = report.window
    whose = f", account {cell(report.account)}" if report.account else ""
    click.echo(
        f"{report.name} from {shown_time(window.since, window)} to {shown_time(window.until, window)} "
        f"({zone_name(window)}){whose}"
    )
    for name, (keys, rows) in report.parts.items():
        columns = [c for c in _COLUMNS[name] if c != "name" or "name" in keys]
        made = _MAKERS[name]
        click.echo()
        shown = (_aligned({c: made(row, window)[c] for c in columns}) for row in rows())
        print_rows(shown, False, columns, of=name)


def _aligned(row: Mapping[str, Any]) -> dict[str, Any]:
    """Figures end below each other, and below their heading."""
    return {key: str(value).rjust(max(len(key), _WIDTH)) if key in _RIGHT else value for key, value in row.items()}


def _figures(row: Mapping[str, Any], _window: Window) -> dict[str, Any]:
    return {
        **row,
        "operational": shown_percent(row["operational_percent"]).rjust(11),
        "warning": span(row["warning_seconds"]),
        "critical": span(row["critical_seconds"]),
        "mttr": span(row["mttr_seconds"]),
        "longest": span(row["longest_seconds"]),
    }


def _tellings(row: Mapping[str, Any], _window: Window) -> dict[str, Any]:
    return {
        **row,
        "account": row["account"] if row["account"] is not None else "(removed)",
        "success": shown_percent(row["success_percent"]),
        "p50": milliseconds(row["latency_p50_ms"]),
        "p95": milliseconds(row["latency_p95_ms"]),
        "told p50": span(row["told_p50_seconds"]),
        "told p95": span(row["told_p95_seconds"]),
    }


def milliseconds(value: int | None) -> str:
    return "–" if value is None else f"{value} ms"


def _incident(row: Mapping[str, Any], window: Window) -> dict[str, Any]:
    before = "before " if row["began_before"] else ""
    return {
        **row,
        "from": before + shown_time(row["from"], window),
        "to": shown_time(row["to"], window) or "open",
        "duration": span(row["duration_seconds"]),
        "told": f"{row['told']} of {row['callbacks']}",
        "p50": span(row["told_p50_seconds"]),
        "said": said(row["reasons"]),
    }


_MAKERS: Mapping[str, Callable[[Mapping[str, Any], Window], dict[str, Any]]] = {
    "regions": _figures,
    "servers": _figures,
    "accounts": _tellings,
    "callbacks": _tellings,
    "incidents": _incident,
}


# --- pages ------------------------------------------------------------------------------------------------------------


def write_availability(path: str, report: Report, past: Past, incidents: Sequence[Mapping[str, Any]]) -> None:
    _write(path, pages.availability(_head(report), past, incidents))


def write_incidents(path: str, report: Report, past: Past, incidents: Sequence[Mapping[str, Any]]) -> None:
    _write(path, pages.incidents(_head(report), past, incidents))


def write_deliveries(path: str, report: Report) -> None:
    rows = {name: list(make()) for name, (_, make) in report.parts.items()}
    _write(path, pages.deliveries(_head(report), rows["accounts"], rows["callbacks"]))


def _head(report: Report) -> Head:
    return Head(report.window, zone_name(report.window), report.account, report.notes)


def _write(path: str, page: str) -> None:
    if path == "-":
        click.echo(page, nl=False)
        return
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise MonitorError(f"{path}: {error.strerror}", "nothing was written: check the folder") from error
    say_on_terminal(f"written: {path}")
