"""A region's time as a picture: inline SVG whose height tells the type as its colour does, so that it reads in grey.

Positions are percentages, so that one picture fits a phone and a wall, and its letters are not stretched.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from monitor_cli.reports.markup import Html, join, tag
from monitor_cli.reports.window import Window, days
from monitor_cli.types import DAY_MS

LEVELS = ("", "operational", "warning", "critical")
UNKNOWN_LEVEL = 0
_FLOOR = 36  # y of the line that bars stand on
_HEIGHTS = (2, 8, 21, 34)
_LABEL_Y = 52
_TICKS = 5
_LETTER = 1.95  # a letter's width on a phone, in percent of the picture's
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)  # minutes between labels


class Run(NamedTuple):
    """Neighbouring cells of one level: from the first to before `end`."""

    first: int
    end: int
    level: int


def runs(cells: bytes) -> Iterator[Run]:
    """A picture's cells, taken together where they are alike."""
    at = 0
    for level, same in groupby(cells):
        length = sum(1 for _ in same)
        yield Run(at, at + length, level)
        at += length


def drawn(cells: bytes, window: Window, name: str, title: str, description: str) -> Html:
    """The picture. `name` is unique on its page; title and description are read out instead of it."""
    bars = [_bar(run, len(cells), window) for run in runs(cells)]
    return tag(
        "svg",
        tag("title", title, id=f"{name}-t"),
        tag("desc", description, id=f"{name}-d"),
        *bars,
        tag("line", x1="0", x2="100%", y1=_FLOOR + 0.5, y2=_FLOOR + 0.5, class_="tick"),
        *_ticks(window),
        class_="timeline",
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
    )


def mark(level: int) -> Html:
    """A bar as the legend shows it."""
    height = max(2, _HEIGHTS[level] * 16 // _HEIGHTS[-1])
    bar = tag("rect", x=0, y=16 - height, width=10, height=height, class_=f"c-{LEVELS[level] or 'unknown'}")
    return tag("svg", bar, viewBox="0 0 10 16", aria_hidden="true")


def _bar(run: Run, cells: int, window: Window) -> Html:
    height, word = _HEIGHTS[run.level], LEVELS[run.level] or "unknown"
    place = {"x": _share(run.first, cells), "width": _share(run.end - run.first, cells)}
    hint = tag("title", f"{word}: {_moment(run.first, cells, window)} – {_moment(run.end, cells, window)}")
    shape = {**place, "y": _FLOOR - height, "height": height, "class_": f"c-{word}"}
    return tag("rect", hint if run.level > 1 else None, **shape)


def _share(part: int, whole: int) -> str:
    return f"{part * 100 / whole:.4g}%"


def _moment(cell: int, cells: int, window: Window) -> str:
    at = window.local(window.since + window.length * cell // cells)
    return f"{at.day} {at:%b %H:%M}"


def _ticks(window: Window) -> Iterator[Html]:
    free = 0.0  # from where on there is room for a label
    for at, label in _marks(window):
        share = (at - window.since) * 100 / window.length
        width = len(label) * _LETTER
        anchor = "start" if share < width / 2 else "end" if share > 100 - width / 2 else "middle"
        left = share - {"start": 0, "middle": width / 2, "end": width}[anchor]
        x = f"{share:.4g}%"
        line = tag("line", x1=x, x2=x, y1=_FLOOR, y2=_FLOOR + 4, class_="tick")
        if left < free:
            yield line
            continue
        free = left + width + _LETTER / 2
        yield join(line, tag("text", label, x=x, y=_LABEL_Y, text_anchor=anchor))


def _marks(window: Window) -> list[tuple[int, str]]:
    """Where the labels stand: at beginnings of days, or of a short window's hours."""
    if window.length > 3 * DAY_MS:
        found = days(window)
        step = -(-len(found) // _TICKS)
        form = "%b %Y" if window.length > 400 * DAY_MS else None
        return [(at, day.strftime(form) if form else f"{day.day} {day:%b}") for at, day in found[::step]]
    return _clock_marks(window) or [(window.since, f"{window.local(window.since):%H:%M:%S}")]


def _clock_marks(window: Window) -> list[tuple[int, str]]:
    """Full hours, or minutes, of the window's clock; with the day where there are several."""
    one_day = window.length <= DAY_MS
    most = _TICKS if one_day else 3
    step = next(step * 60_000 for step in _STEPS if step * 60_000 * most >= window.length)
    at = int(window.local(window.since).replace(minute=0, second=0, microsecond=0).timestamp() * 1000)
    at += -(-(window.since - at) // step) * step
    marks = []
    while at < window.until:
        moment = window.local(at)
        marks.append((at, f"{moment:%H:%M}" if one_day else f"{moment.day} {moment:%b %H:%M}"))
        at += step
    return marks
