"""Type, the one scale on which everything is judged, and the frozen records that modules hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import eq
from typing import NamedTuple, overload

DAY_MS = 24 * 3600 * 1000
LOAD = "load"  # stands in the history as the source of a change that a channel's load made; no source's name


class Type(IntEnum):
    """What customers are told about their numbers: operational < warning < critical. Prints as its word."""

    OPERATIONAL = 0
    WARNING = 1
    CRITICAL = 2

    word: str

    def __init__(self, _value: int) -> None:
        self.word = self.name.lower()  # a plain attribute: it is read for each of many callbacks

    __hash__ = int.__hash__  # an enum's own is made anew in Python each time

    def __str__(self) -> str:
        return self.word

    def __format__(self, spec: str) -> str:
        return format(self.word, spec)

    @classmethod
    def read(cls, word: str | None) -> Type | None:
        """The type that a final_status column means, without regard to case; None for NULL or an unknown word."""
        return _BY_WORD.get(word.strip().lower()) if word else None


def word_of(kind: Type | None) -> str:
    """A type as people read it, where it may be none that we know."""
    return "unknown" if kind is None else kind.word


_BY_WORD = {t.word: t for t in Type}


def worst(types: Iterable[Type | None]) -> Type | None:
    """The worst of several types; the unknown ones (None) do not count, and of none there is none."""
    return max((t for t in types if t is not None), default=None)


class Region(NamedTuple):
    """The pair that names a region (NULL in a column counts as '')."""

    region: str
    region_code: str

    @classmethod
    def of(cls, region: str | None, region_code: str | None) -> Region:
        return cls(region or "", region_code or "")

    @property
    def shown(self) -> str:
        """As it is called where people read it."""
        if self.region and self.region_code:
            return f"{self.region} ({self.region_code})"
        return self.region or self.region_code or "a region without a name"


class Unit(NamedTuple):
    """What has a type: a channel in a region. The numbers on it share it."""

    channel_id: int
    region: Region


@dataclass(frozen=True)
class Incident:
    """What a source says about the trouble a component is in: a title and, where it has one, a link."""

    title: str
    link: str | None = None


class Said(NamedTuple):
    """What a page says of a component beside its id and its name (Component has what each value is)."""

    word: str
    type: Type | None
    known: bool
    incident: Incident | None


class Component(NamedTuple):
    """A thing with a status on a source's page. `word` is the page's own; `type` what it means, None for a word that
    says nothing about the state (the row keeps its status); `known` is False where
    the provider had never heard of it."""

    id: str
    name: str
    word: str
    type: Type | None
    known: bool = True
    incident: Incident | None = None

    @property
    def said(self) -> Said:
        return Said(self.word, self.type, self.known, self.incident)


class Components(Sequence[Component]):
    """The components of a large page by column: as objects of their own they would take as long as reading the page.
    `names` are as they came, and become text by `name_of`; what is said alike is one object."""

    def __init__(
        self, ids: Sequence[str], said: Sequence[Said], names: Sequence[object], name_of: Callable[[object], str]
    ) -> None:
        self.ids = ids
        self.said = said
        self._names = names
        self._name_of = name_of

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Component: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Component]: ...

    def __getitem__(self, place: int | slice) -> Component | Sequence[Component]:
        if isinstance(place, slice):
            return Components(self.ids[place], self.said[place], self._names[place], self._name_of)
        return Component(self.ids[place], self._name_of(self._names[place]), *self.said[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


class OnlyAffected(list[Component]):
    """The components of a document that lists only what is affected: one that is not in it is operational (SPEC 9)."""

    ABSENT = Component(id="", name="", word="operational", type=Type.OPERATIONAL)
