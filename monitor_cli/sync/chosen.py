"""Which sources there are, and which of them a run is to read."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from monitor_cli.config import Settings, Source, with_secrets
from monitor_cli.errors import ConfigError, UsageError
from monitor_cli.providers import AUTO, PROVIDERS
from monitor_cli.sources import File, is_url, shown
from monitor_cli.sync.reading import Wanted

_NAME_LENGTH = 100  # of the columns that hold it


class Choice(NamedTuple):
    """What to read; `every_source`: these are all that there are."""

    wanted: list[Wanted]
    every_source: bool


def configured(settings: Settings) -> list[Source]:
    """The sources of the settings: those of the file, or where it has none the one of incident_url. Raises
    ConfigError (78)."""
    sources = list(settings.sources)
    if not sources and settings.incident_url:
        sources = [Source(name=name_of(settings.incident_url), url=settings.incident_url)]
    for source in sources:
        _judge(source, ConfigError)
    return sources


def check(settings: Settings) -> None:
    """Raise ConfigError (78) where a configured source cannot be meant, or a file of it cannot be read."""
    for source in configured(settings):
        with_secrets(source)


def choose(
    settings: Settings,
    name: str | None = None,
    provider: str | None = None,
    url: str | None = None,
    files: Sequence[File] = (),
) -> Choice:
    """The sources that the options of a command mean. Raises UsageError (2), ConfigError (78)."""
    known = configured(settings)
    if name is not None:
        chosen = [named(name, known)]
    elif files:
        chosen = [Source(name=files[0].name[:_NAME_LENGTH])]
    elif url is not None:
        chosen = [Source(name=name_of(url))]
    else:
        chosen = known
    if not chosen:
        raise ConfigError(
            "no source is configured",
            "give --url or MONITOR_INCIDENT_URL, or [[sources]] with name and url in the configuration file",
        )
    changed = [replace(one, provider=provider or one.provider, url=one.url if url is None else url) for one in chosen]
    if url is not None:
        for source in changed:
            _judge(source, UsageError)
    if not files:
        changed = [with_secrets(source) for source in changed]
    return Choice([Wanted(source, files) for source in changed], len(known) <= len(changed))


def named(name: str, sources: Sequence[Source]) -> Source:
    """The source of this name. Raises UsageError (2) with the nearest one."""
    for source in sources:
        if source.name == name:
            return source
    names = [source.name for source in sources]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"configured: {', '.join(names) or 'none'}"
    raise UsageError(f"there is no source {name!r}", hint)


def name_of(url: str) -> str:
    """A name for a source that has none: where it is."""
    return shown(url).partition("://")[2].rstrip("/")[:_NAME_LENGTH] or "the URL"


def _judge(source: Source, kind: type[UsageError | ConfigError]) -> None:
    """Raise what is wrong with a source before anything is read."""
    if len(source.name) > _NAME_LENGTH:
        raise kind(f"the source {source.name!r} has a name of more than {_NAME_LENGTH} characters")
    if source.provider not in (AUTO, *PROVIDERS):
        near = difflib.get_close_matches(source.provider, [AUTO, *PROVIDERS], 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join([AUTO, *PROVIDERS])}"
        raise kind(f"the source {source.name!r} has an unknown provider {source.provider!r}", hint)
    if not is_url(source.url):
        raise kind(
            f"the source {source.name!r} has no http or https URL: {shown(source.url)!r}", "as https://host/path"
        )
