"""Wrapping: from what sources say about components to what a server's row should hold.

The type of a component is that of its word, or what the source's `status_map` makes of that word; of a tag that
several sources have the worst counts. What a row gets by it, sync/judging says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from monitor_cli.config import Source
from monitor_cli.types import Component, Components, Incident, OnlyAffected, Said, Type

T = TypeVar("T")

WORD_LENGTH = 50  # of infi_voice_monitor.incident_status


class Observation(NamedTuple):
    """What was said about a server_tag: the word as it is stored, and its type (None: the row keeps its status)."""

    word: str
    type: Type | None
    source: str
    incident: Incident | None


class Wrapper:
    """What a source's table says about its components: `tag_prefix`, `tags`, `status_map`. `unknown`: the words that
    neither the provider nor the table knows, of the components that were observed."""

    def __init__(self, source: Source) -> None:
        self._source = source.name
        self._prefix, self._tags = source.tag_prefix, source.tags
        self._types = {word.casefold(): Type.read(kind) for word, kind in source.status_map.items()}
        self.unknown: set[str] = set()

    def tag_of(self, component_id: str) -> str:
        """The server_tag of a component."""
        return self._tags.get(component_id) or self._prefix + component_id

    def type_of(self, component: Component) -> tuple[Type | None, bool]:
        """The type of a component, and whether its word is known."""
        mapped = self._types.get(component.word.casefold()) if self._types else None
        return (component.type, component.known) if mapped is None else (mapped, True)

    def observe(self, component: Component) -> Observation:
        """What a component says."""
        kind, known = self.type_of(component)
        if not known:
            self.unknown.add(component.word)
        return Observation(component.word[:WORD_LENGTH], kind, self._source, component.incident)

    def observe_all(self, components: Sequence[Component]) -> Observations:
        """What each component says. Pages are large and have few words: what is said alike is looked at once."""
        ids, said = _columns(components)
        alike = {key: self.observe(Component("", "", *one)) for key, one in by_identity(said).items()}
        tags = [self.tag_of(id_) for id_ in ids] if self._prefix or self._tags else ids
        return Observations(tags, list(map(alike.__getitem__, map(id, said))))


def _columns(components: Sequence[Component]) -> tuple[Sequence[str], Sequence[Said]]:
    """The ids, and what is said of each: what is alike as one object."""
    if isinstance(components, Components):
        return components.ids, components.said
    said = [component.said for component in components]
    kept: dict[Said, Said] = {}
    return [component.id for component in components], list(map(kept.setdefault, said, said))


class Observations(NamedTuple):
    """Server_tags, and what is said of each."""

    tags: Collection[str]
    said: Collection[Observation]


def by_identity(objects: Collection[T]) -> dict[int, T]:
    """Each object of a collection in which few are there many times: to compare them takes longer."""
    return dict(zip(map(id, objects), objects, strict=True))


class Silence(NamedTuple):
    """What a source that lists only what is affected says about all that it does not name, as far as its tags reach."""

    said: Observation
    prefix: str
    tags: frozenset[str]

    def covers(self, tag: str) -> bool:
        """Whether a tag can be one of this source's."""
        return tag.startswith(self.prefix) or tag in self.tags


class Observed:
    """What all sources of a run said, by server_tag."""

    def __init__(self) -> None:
        self.tags: dict[str, Observation] = {}
        self.shared: dict[str, set[str]] = {}
        """Tags that several sources have, with their names."""
        self.unknown: dict[str, set[str]] = {}
        """By source (each that was read): the words that neither its provider nor its status_map knows."""
        self.held: set[str] = set()
        """Tags that a source which was not read may have too: nothing better than what is known counts for them."""
        self.absent: dict[str, Silence] = {}
        """By source that lists only what is affected: what it says about all that it does not name."""

    def add(self, source: Source, components: Sequence[Component]) -> None:
        """Take in what a source said. Of a tag that is there already the worst counts."""
        wrapper = Wrapper(source)
        self._take_all(wrapper.observe_all(components))
        if isinstance(components, OnlyAffected):
            tags = frozenset(source.tags.values())
            self.absent[source.name] = Silence(wrapper.observe(components.ABSENT), source.tag_prefix, tags)
        self.unknown.setdefault(source.name, set()).update(wrapper.unknown)

    def silence(self, tag: str) -> Observation | None:
        """What it says about a tag that no source names it: of the first source that could have named it."""
        return next((silence.said for silence in self.absent.values() if silence.covers(tag)), None)

    def merge(self, other: Observed) -> None:
        """Take in what another source said."""
        for name, words in other.unknown.items():
            self.unknown.setdefault(name, set()).update(words)
        self.absent.update(other.absent)
        if not self.tags:
            self.tags = other.tags
            return
        self._take_all(Observations(other.tags.keys(), other.tags.values()))

    @property
    def said(self) -> dict[int, Observation]:
        """Each thing that was said, by identity."""
        return by_identity(self.tags.values())

    def restate(self, words: Mapping[str, str]) -> None:
        """Say some words otherwise."""
        restated = {key: old._replace(word=words[old.word]) for key, old in self.said.items() if old.word in words}
        for tag, old in self.tags.items():
            if (new := restated.get(id(old))) is not None:
                self.tags[tag] = new

    def _take_all(self, new: Observations) -> None:
        tags = dict(zip(*new, strict=True))
        if not self.tags and len(tags) == len(new.tags):  # as it mostly is: one source, and nothing is said twice
            self.tags = tags
            return
        for tag, one in zip(*new, strict=True):
            old = self.tags.setdefault(tag, one)
            if old is one:
                continue
            if old.source != one.source:
                self.shared.setdefault(tag, {old.source}).add(one.source)
            if _rank(one) > _rank(old):
                self.tags[tag] = one


def _rank(observation: Observation) -> int:
    return -1 if observation.type is None else observation.type.value
