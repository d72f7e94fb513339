"""Settings: flag > environment (MONITOR_*) > TOML file > default, and where each value came from.

A setting is one line of the Settings class; its environment name, its key in the file and `config show` follow from it.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from monitor_cli.errors import ConfigError
from monitor_cli.types import LOAD

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SYSTEM_FILE = Path("/etc/monitor-cli/config.toml")


# --- how a value is read: from TOML as it comes, from the environment and flags as text -------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _file(value: object) -> str:
    path = _text(value)
    try:
        if path:
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        raise ValueError(f"names a file that cannot be read: {path}: {_reason(error)}") from None
    return path


def _integer(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def _number(low: float, high: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        try:
            number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(f"must be a number from {_plain(low)} to {_plain(high)}")
        return number

    return read


def _plain(number: float) -> str:
    """A limit as people write it: 2592000, not 2.592e+06."""
    return str(int(number)) if number == int(number) else str(number)


def _items(value: object) -> list[Any]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError("must be a list (in the environment: separated by commas)")


def _networks(value: object) -> tuple[Network, ...]:
    items = _items(value)
    try:
        return tuple(ipaddress.ip_network(item) for item in items)
    except (ValueError, TypeError) as error:
        raise ValueError(f"must be networks as 10.1.0.0/16 or fd00::/8: {error}") from None


def _seconds_list(value: object) -> tuple[float, ...]:
    read, items = _number(0, 30 * 86400), _items(value)
    try:
        return tuple(map(read, items))
    except ValueError as error:
        raise ValueError(f"{error}, in seconds, each (with commas between, as 5,300,1800)") from None


def _words(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise ValueError('must be a table of text, as { partial_outage = "critical" }')
    return dict(value)


def _types(value: object) -> dict[str, str]:
    words = _words(value)
    for word, kind in words.items():
        if kind not in ("operational", "warning", "critical"):
            raise ValueError(f"maps {word!r} to {kind!r}, which is none of operational, warning, critical")
    return words


def _headers(value: object) -> dict[str, str]:
    headers = _words(value)
    for name, content in headers.items():
        if (reason := header_fault(name, content)) is not None:
            raise ValueError(f"{name!r} {reason}")
    return headers


def header_fault(name: str, value: str) -> str | None:
    """Why a request cannot have a header (RFC 9110, 5); None where it can. The value is not in the words."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        return "is no name of a header"
    if not value.isprintable() or value != value.strip():
        return "has a value with control characters, or blanks around it"
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return "has a value with characters that no header can have"
    return None


# --- sources ----------------------------------------------------------------------------------------------------------


def setting(default: Any, read: Callable[[object], Any], text: str, *, secret: bool = False) -> Any:
    """A field of Settings (or Source): its default, how it is read, what it is for."""
    metadata = {"read": read, "help": text, "secret": secret}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Source:
    """An upstream incident API, as a [[sources]] table of the file describes it."""

    name: str = setting("", _text, "its name in messages and with --source")
    provider: str = setting("auto", _text, "which status page product it is; auto recognises it")
    url: str = setting("", _text, "the page's address or a document's")
    status_map: dict[str, str] = setting({}, _types, "the type of a word, where ours does not fit")
    headers: dict[str, str] = setting({}, _headers, "headers sent with each request", secret=True)
    headers_file: str = setting("", _text, "a file with further headers, a line each as Name: value")
    basic_auth_file: str = setting("", _text, "a file with user:password for HTTP basic authentication")
    timeout: float = setting(30.0, _number(0.1, 600), "seconds, in total, for reading it")
    tag_prefix: str = setting("", _text, "what stands before its component ids in server_tag")
    tags: dict[str, str] = setting({}, _words, "the server_tag of a component id, where it is another")


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


def _sources(value: object) -> tuple[Source, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("must be [[sources]] tables")
    sources = []
    for number, table in enumerate(value, 1):
        where = f"[[sources]] number {number}"
        read = _read_table(Source, table, where)
        for key in ("name", "url"):
            if not read.get(key):
                raise ConfigError(f"{where} has no {key}", "each source needs a name and a url")
        sources.append(Source(**read))
    names = [source.name for source in sources]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"has two sources of the name {sorted(doubled)[0]!r}")
    if LOAD in names:
        raise ValueError(f"has a source of the name {LOAD!r}, which the history has for what a channel's load did")
    return tuple(sources)


# --- the settings -----------------------------------------------------------------------------------------------------


def _default_database() -> str:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return f"sqlite:///{Path(base) / 'monitor-cli' / 'monitor.db'}"


@dataclass(frozen=True)
class Settings:
    """Every setting with its value; `origins` says where each came from (flag, environment, file, default)."""

    database_url: str = setting("", _text, "where the tables are, as an SQLAlchemy URL", secret=True)
    database_url_file: str = setting("", _text, "a file that holds database_url")
    incident_url: str = setting("", _text, "one source, where the file names none")
    sources: tuple[Source, ...] = setting((), _sources, "the upstream incident APIs")
    confirm: int = setting(1, _integer(1, 1000), "syncs in a row that have to see a new type before it counts")
    capacity_warning: float = setting(0.0, _number(0, 2), "used/capacity from which a server is warning; 0: off")
    capacity_critical: float = setting(0.0, _number(0, 2), "used/capacity from which a server is critical; 0: off")
    allow_networks: tuple[Network, ...] = setting((), _networks, "private networks that callbacks may reach")
    deny_networks: tuple[Network, ...] = setting((), _networks, "further networks that callbacks may not reach")
    concurrency: int = setting(256, _integer(1, 4096), "callback requests in flight at once")
    max_seconds: float = setting(55.0, _number(0, 86400), "how long a callback-run works, in seconds")
    processes: int = setting(0, _integer(0, 64), "processes of a callback-run; 0: one for each core, at most 4")
    connect_timeout: float = setting(5.0, _number(0.05, 60), "seconds for reaching a customer's server")
    total_timeout: float = setting(15.0, _number(0.1, 120), "seconds for a whole callback request")
    slow_lane: int = setting(2048, _integer(1, 100_000), "requests in flight that have taken over a second")
    ca_file: str = setting("", _file, "certificate authorities for callbacks, instead of the system's")
    lease_seconds: float = setting(
        60.0, _number(1, 3600), "how long a claimed delivery is held; never less than twice total_timeout and 10 s"
    )
    retry_schedule: tuple[float, ...] = setting(
        (5, 300, 1800, 7200, 18000, 36000, 36000), _seconds_list, "seconds before each retry of a delivery"
    )
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


def names() -> list[Field[Any]]:
    """The fields that are settings, in the order of `config show`."""
    return [f for f in fields(Settings) if f.name != "origins"]


def env_name(name: str) -> str:
    return "MONITOR_" + name.upper()


def load(path: str | None, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Settings:
    """Read the settings. `path` is --config's; `flags` are values given on the command line, None where not given.
    Raises ConfigError (78) with the key, where it stands and the nearest known one."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {f.name: "default" for f in names()}
    file = _find_file(path, environ)
    if file is not None:
        values.update(_read_table(Settings, _read_file(file), str(file)))
        origins.update(dict.fromkeys(values, f"file {file}"))
    for f in names():
        if (raw := environ.get(env_name(f.name))) is not None and f.name != "sources":
            values[f.name] = _read_value(f, raw, f"the environment variable {env_name(f.name)}")
            origins[f.name] = f"environment {env_name(f.name)}"
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = value
            origins[key] = "flag"
    _resolve_database(values, origins)
    return Settings(**values, origins=origins)


def check(settings: Settings) -> None:
    """Raise ConfigError (78) where two settings contradict each other."""
    warning, critical = settings.capacity_warning, settings.capacity_critical
    if warning and critical and critical < warning:
        raise ConfigError(
            f"capacity_critical ({critical:g}) is below capacity_warning ({warning:g})",
            "a server would be critical before it is warning: raise capacity_critical, or set one to 0 (off)",
        )
    if settings.connect_timeout > settings.total_timeout:
        raise ConfigError(
            f"connect_timeout ({settings.connect_timeout:g}) is above total_timeout ({settings.total_timeout:g})",
            "connecting is a part of the whole request: lower connect_timeout, or raise total_timeout",
        )


def _resolve_database(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Where both name the database, the URL and the file with it, the one that was said closer by counts."""

    def nearness(name: str) -> int:
        return ("default", "file", "environment", "flag").index(origins[name].split()[0])

    file = values.get("database_url_file")
    if values.get("database_url") and (not file or nearness("database_url") >= nearness("database_url_file")):
        return
    if file:
        values["database_url"] = read_secret_file(file, "database_url_file")
        origins["database_url"] = f"file {file}"
    else:
        values["database_url"] = _default_database()


def read_secret_file(path: str, setting_name: str) -> str:
    """What a file that holds a secret says, without blanks around it. Raises ConfigError where it cannot be read."""
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{setting_name} {path}: {_reason(error)}", "check the path and who may read it") from None


def _find_file(path: str | None, environ: Mapping[str, str]) -> Path | None:
    chosen = path or environ.get("MONITOR_CONFIG")
    if chosen:
        return Path(chosen)
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the configuration file {file}: {_reason(error)}", "check --config and MONITOR_CONFIG"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration file {file} is not TOML: {error}") from None


def _read_table(kind: type, table: dict[str, Any], where: str) -> dict[str, Any]:
    known = {f.name: f for f in fields(kind) if "read" in f.metadata}
    values = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise ConfigError(
                f"{where}: unknown key {key!r}",
                f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}",
            )
        values[key] = _read_value(known[key], value, where)
    return values


def _read_value(f: Field[Any], value: object, where: str) -> Any:
    try:
        return f.metadata["read"](value)
    except ValueError as error:
        raise ConfigError(f"{where}: {f.name} {error}") from None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "is not UTF-8 text"
