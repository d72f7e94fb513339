"""What `check` finds, and how bad that is by the limits given. States and exit codes are those of the Monitoring
Plugins (https://www.monitoring-plugins.org/doc/guidelines.html)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from monitor_cli.safetext import escaped


class State(IntEnum):
    """How it stands; the value is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def worst_of(states: Collection[State]) -> State:
    """CRITICAL before WARNING before UNKNOWN before OK."""
    order = (State.CRITICAL, State.WARNING, State.UNKNOWN)
    return next((state for state in order if state in states), State.OK)


class Limit(tuple[float, float]):
    """From which value on something is a warning, and from which critical; 0: never."""

    def __new__(cls, warning: float, critical: float) -> Limit:
        return super().__new__(cls, (warning, critical))

    @property
    def warning(self) -> float:
        return self[0]

    @property
    def critical(self) -> float:
        return self[1]

    def judge(self, value: float) -> State:
        if self.critical and value >= self.critical:
            return State.CRITICAL
        return State.WARNING if self.warning and value >= self.warning else State.OK


@dataclass(frozen=True)
class Limits:
    """The limits of a check: ages and differences in seconds, the others are counts of callbacks. A callback counts as
    failing once it has been for `failing_for` seconds."""

    sync: Limit = Limit(300, 900)
    owed: Limit = Limit(300, 900)
    failing: Limit = Limit(1, 0)
    failing_for: float = 900
    off: Limit = Limit(1, 0)
    clock: Limit = Limit(5, 300)


@dataclass(frozen=True)
class Measure:
    """A value for performance data. `unit`: s for seconds, nothing for a count."""

    label: str
    value: float
    unit: str = ""
    limit: Limit | None = None


@dataclass(frozen=True)
class Finding:
    """What one of the checks found: a state, words for people, and the same as data."""

    name: str
    state: State
    message: str
    measures: Sequence[Measure] = ()
    details: dict[str, Any] = field(default_factory=dict)


def plugin_line(state: State, words: str, measures: Sequence[Measure] = ()) -> str:
    """The one line of a Nagios plugin: state, words, performance data."""
    text = escaped(" ".join(words.replace("|", "/").split()))
    line = f"MONITOR {state.name}: {text}"
    return f"{line} | {' '.join(map(_performance, measures))}" if measures else line


def _performance(one: Measure) -> str:
    label = "".join("_" if c in "=|" or not c.isprintable() else c for c in one.label).replace("'", "''")
    warning, critical = (f"{value:g}" if value else "" for value in one.limit or (0.0, 0.0))
    return f"'{label}'={_number(one.value)}{one.unit};{warning};{critical};0"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"
