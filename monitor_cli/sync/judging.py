"""What a row of infi_voice_monitor should hold after a sync: the worst of its component's type and its channel's load,
once enough syncs in a row saw it (SPEC 4). A pure function of the row, what its source said, and what is remembered.

What is remembered of a row (a Standing) is what its columns cannot tell: the component's type where the load or a count
hides it, the load's own type (it is left later than it is entered), and how often a new type was seen. Where the
columns tell it all there is none, so a database has a standing for the few rows that are special, not for each.
"""

from __future__ import annotations

from typing import NamedTuple

from monitor_cli.config import Settings
from monitor_cli.store.standings import Standing
from monitor_cli.store.sync_rows import ServerRow
from monitor_cli.types import LOAD, Incident, Type, worst
from monitor_cli.wrapping import Observation

LEFT_BELOW = 0.05  # the load's type is left this much below the threshold that gave it


class Rules(NamedTuple):
    """The configuration's rules: `confirm`, `capacity_warning` and `capacity_critical` (0: off)."""

    confirm: int = 1
    warning: float = 0.0
    critical: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        return cls(settings.confirm, settings.capacity_warning, settings.capacity_critical)

    @property
    def load_counts(self) -> bool:
        return self.warning > 0 or self.critical > 0

    @property
    def lowest(self) -> float | None:
        """The load under which no row is anything but operational for it; None where the load does not count."""
        used = [limit for limit in (self.warning, self.critical) if limit > 0]
        return _left_at(min(used)) if used else None

    def load(self, capacity: int | None, used: int | None, before: Type) -> Type:
        """The type of a channel's load; `before` is what it was at the last sync."""
        if not capacity or capacity <= 0 or not self.load_counts:
            return Type.OPERATIONAL
        load = (used or 0) / capacity
        for kind, limit in ((Type.CRITICAL, self.critical), (Type.WARNING, self.warning)):
            if limit > 0 and (load >= limit or (before >= kind and load > _left_at(limit))):
                return kind
        return Type.OPERATIONAL


def _left_at(limit: float) -> float:
    # Rounded, for 0.9 - 0.05 has to be what 85/100 is; and an empty channel has left every threshold.
    return max(0.0, round(limit - LEFT_BELOW, 9))


class Columns(NamedTuple):
    """What a row says: incident_status, final_status, capacity, used."""

    word: str | None
    final: str | None
    capacity: int | None
    used: int | None


class Verdict(NamedTuple):
    """What to write: a word and a type (None: it stays as it is), and what to remember (None: nothing). `by_load`: it
    is the load that gives the type."""

    word: str | None
    type: Type | None
    standing: Standing | None
    by_load: bool

    @property
    def writes(self) -> bool:
        return self.word is not None or self.type is not None


def judge(rules: Rules, row: Columns, seen: Observation | None, standing: Standing | None) -> Verdict:
    """What a row gets by what its source said in this sync (None: nothing was heard of it)."""
    final = Type.read(row.final)
    before = standing or Standing(final, Type.OPERATIONAL, final)
    # Another program's type counts as the component's, until the source is heard again.
    component = before.component if before.final is final else final
    load = rules.load(row.capacity, row.used, before.load)
    said = None if seen is None else seen.type
    judged = worst((component if said is None else said, load))
    if component is said is final is None and load is Type.OPERATIONAL:
        judged = None  # nothing is known of it, and the load alone does not make a server well
    new, count, to = _confirmed(rules.confirm, before, final, judged, said is None and load is before.load)
    if said is not None and new is None:
        component = said
    after = Standing(component, load, final if to is None else to, new, count)
    return Verdict(
        word=seen.word if seen and said is not None and not _same_word(seen.word, row.word) else None,
        type=to,
        standing=None if after == Standing(after.final, Type.OPERATIONAL, after.final) else after,
        by_load=said is None or load > said,
    )


def _confirmed(
    confirm: int, before: Standing, final: Type | None, judged: Type | None, unheard: bool
) -> tuple[Type | None, int, Type | None]:
    """The new type that is waiting and how often it was seen; and the type that counts from now on, where it is
    another. `unheard`: neither the source nor the load said anything new, so what waits goes on waiting."""
    if judged is final or judged is None:
        return (before.new, before.seen, None) if unheard and before.new is not final else (None, 0, None)
    count = before.seen + 1 if before.new is judged else 1
    return (None, 0, judged) if count >= confirm else (judged, count, None)


def _same_word(one: str, other: str | None) -> bool:
    """Case alone is no difference."""
    return one == other or one.casefold() == (other or "").casefold()


class Change(NamedTuple):
    """A row that has to be written: `to` is None where only the source's word is another. `word` is what
    incident_status will hold (`new_word`: None where it does already); `source` and `incident` go into the history."""

    row: ServerRow
    before: Type | None
    to: Type | None
    word: str | None
    new_word: str | None
    source: str
    incident: Incident | None


def change_of(row: ServerRow, verdict: Verdict, seen: Observation | None) -> Change | None:
    """The change that a verdict makes to a whole row; None where it makes none."""
    if not verdict.writes:
        return None
    heard = None if seen is None or (verdict.type is not None and verdict.by_load) else seen
    return Change(
        row=row,
        before=Type.read(row.final_status),
        to=verdict.type,
        word=row.incident_status if verdict.word is None else verdict.word,
        new_word=verdict.word,
        source=heard.source if heard else LOAD,
        incident=heard.incident if heard else Incident(f"{row.used or 0} of {row.capacity or 0} channels in use"),
    )
