"""A source as the configuration describes it, and the secrets that its files hold."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from monitor_cli.config.values import (
    Faults,
    as_headers,
    as_number,
    as_text,
    as_types,
    as_words,
    header_fault,
    read_secret_file,
    read_table,
    setting,
)
from monitor_cli.errors import ConfigError
from monitor_cli.types import LOAD


@dataclass(frozen=True)
class Source:
    """An upstream incident API, as a [[sources]] table of the file describes it."""

    name: str = setting("", as_text, "its name in messages and with --source")
    provider: str = setting("auto", as_text, "which status page product it is; auto recognises it")
    url: str = setting("", as_text, "the page's address or a document's")
    status_map: dict[str, str] = setting({}, as_types, "the type of a word, where ours does not fit")
    headers: dict[str, str] = setting({}, as_headers, "headers sent with each request", secret=True)
    headers_file: str = setting("", as_text, "a file with further headers, a line each as Name: value")
    basic_auth_file: str = setting("", as_text, "a file with user:password for HTTP basic authentication")
    timeout: float = setting(30.0, as_number(0.1, 600), "seconds, in total, for reading it")
    tag_prefix: str = setting("", as_text, "what stands before its component ids in server_tag")
    tags: dict[str, str] = setting({}, as_words, "the server_tag of a component id, where it is another")


def with_secrets(source: Source) -> Source:
    """The source with the headers that its files say. Raises ConfigError (78) where one cannot be read or used."""
    headers = dict(source.headers)
    where = f"the source {source.name!r}: "
    if source.headers_file:
        for name, value in _read_headers(source.headers_file, f"{where}headers_file"):
            _set_header(headers, name, value)
    if source.basic_auth_file:
        secret = read_secret_file(source.basic_auth_file, f"{where}basic_auth_file")
        if ":" not in secret or not secret.isprintable():
            raise ConfigError(f"{where}basic_auth_file {source.basic_auth_file} is not one line user:password")
        _set_header(headers, "Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}")
    return replace(source, headers=headers)


def _read_headers(path: str, setting_name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_secret_file(path, setting_name).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or (reason := header_fault(name, value)) is not None:
            what = "is not Name: value" if not colon else reason
            raise ConfigError(f"{setting_name} {path}, line {number}: it {what}")
        yield name, value


def _set_header(headers: dict[str, str], name: str, value: str) -> None:
    """Names of headers are the same in capitals."""
    for known in [known for known in headers if known.casefold() == name.casefold()]:
        del headers[known]
    headers[name] = value


def as_sources(value: object, top_level: Collection[str] = ()) -> tuple[Source, ...]:
    """The [[sources]] tables. `top_level`: the keys that stand above them. Raises ValueError, or ConfigError with all
    that is wrong in them."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("must be [[sources]] tables")
    sources = []
    faults = Faults()
    for number, table in enumerate(value, 1):
        where = f"[[sources]] number {number}"
        with faults:
            sources.append(Source(**read_table(Source, table, where, top_level)))
        for key in ("name", "url"):
            with faults:
                if table.get(key, "") == "":
                    raise ConfigError(f"{where} has no {key}", "each source needs a name and a url")
    faults.tell()
    names = [source.name for source in sources]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"has two sources of the name {sorted(doubled)[0]!r}")
    if LOAD in names:
        raise ValueError(f"has a source of the name {LOAD!r}, which the history has for what a channel's load did")
    return tuple(sources)
