"""Settings: flag > environment (MONITOR_*) > credential > TOML file > default, and where each value came from.

A setting is one line of the Settings class; its environment name, its key in the file and `config show` follow from it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from monitor_cli.config.secretkey import as_secret_key
from monitor_cli.config.secretkey import secret_keys as secret_keys
from monitor_cli.config.source import Source as Source
from monitor_cli.config.source import as_sources
from monitor_cli.config.source import with_secrets as with_secrets
from monitor_cli.config.values import Faults as Faults
from monitor_cli.config.values import Network as Network
from monitor_cli.config.values import (
    as_file,
    as_integer,
    as_networks,
    as_number,
    as_seconds_list,
    as_text,
    as_url,
    find_credential,
    read_secret_file,
    read_table,
    read_value,
    reason,
    setting,
)
from monitor_cli.config.values import header_fault as header_fault
from monitor_cli.errors import ConfigError

PINGED = ("incident_sync", "callback_run")  # the jobs that tell a URL how they go
SYSTEM_FILE = Path("/etc/monitor-cli/config.toml")


def _data() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "monitor-cli"


def _default_database() -> str:
    return f"sqlite:///{_data() / 'monitor.db'}"


def _sources(value: object) -> tuple[Source, ...]:
    return as_sources(value, {f.name for f in names()})


@dataclass(frozen=True)
class Settings:
    """Every setting with its value; `origins` says where each came from (flag, environment, credential, file,
    default). A secret one may be a credential of the service manager."""

    database_url: str = setting("", as_text, "where the tables are, as an SQLAlchemy URL", secret=True)
    database_url_file: str = setting("", as_text, "a file that holds database_url")
    secret_key: str = setting("", as_secret_key, "encrypts customers' secrets in the tables", secret=True)
    secret_key_file: str = setting("", as_text, "a file that holds secret_key")
    incident_url: str = setting("", as_text, "one source, where the file names none")
    sources: tuple[Source, ...] = setting((), _sources, "the upstream incident APIs")
    confirm: int = setting(1, as_integer(1, 1000), "syncs in a row that have to see a new type before it counts")
    capacity_warning: float = setting(0.0, as_number(0, 2), "used/capacity from which a server is warning; 0: off")
    capacity_critical: float = setting(0.0, as_number(0, 2), "used/capacity from which a server is critical; 0: off")
    allow_networks: tuple[Network, ...] = setting((), as_networks, "private networks that callbacks may reach")
    deny_networks: tuple[Network, ...] = setting((), as_networks, "further networks that callbacks may not reach")
    concurrency: int = setting(256, as_integer(1, 4096), "callback requests in flight at once")
    max_seconds: float = setting(55.0, as_number(0, 86400), "how long a callback-run works, in seconds")
    processes: int = setting(0, as_integer(0, 64), "processes of a callback-run; 0: one for each core, at most 4")
    connect_timeout: float = setting(5.0, as_number(0.05, 60), "seconds for reaching a customer's server")
    total_timeout: float = setting(15.0, as_number(0.1, 120), "seconds for a whole callback request")
    slow_lane: int = setting(2048, as_integer(1, 100_000), "requests in flight that have taken over a second")
    ca_file: str = setting("", as_file, "certificate authorities for callbacks, instead of the system's")
    lease_seconds: float = setting(
        60.0, as_number(1, 3600), "how long a claimed delivery is held; never less than twice total_timeout and 10 s"
    )
    retry_schedule: tuple[float, ...] = setting(
        (5, 300, 1800, 7200, 18000, 36000, 36000), as_seconds_list, "seconds before each retry of a delivery"
    )
    retention_days: int = setting(90, as_integer(1, 36_500), "how old, in days, what archive takes has to be")
    archive_dir: str = setting("", as_text, "where archive writes its files")
    api_rate_per_key: float = setting(10.0, as_number(0, 1_000_000), "requests a second of an API key; 0: no limit")
    api_burst_per_key: int = setting(60, as_integer(0, 1_000_000), "requests of an API key at once; 0: no limit")
    api_rate_per_address: float = setting(100.0, as_number(0, 1_000_000), "the same for an address; 0: no limit")
    api_burst_per_address: int = setting(400, as_integer(0, 1_000_000), "requests of an address at once; 0: no limit")
    api_bad_keys_per_minute: int = setting(20, as_integer(0, 1_000_000), "bad API keys of an address; 0: no limit")
    trusted_proxies: tuple[Network, ...] = setting((), as_networks, "proxies whose X-Forwarded-For names the client")
    incident_sync_textfile: str = setting("", as_text, "where incident-sync writes metrics for Prometheus")
    callback_run_textfile: str = setting("", as_text, "where callback-run writes metrics for Prometheus")
    incident_sync_ping_url: str = setting("", as_url, "told how each run of incident-sync goes", secret=True)
    incident_sync_ping_url_file: str = setting("", as_text, "a file that holds incident_sync_ping_url")
    callback_run_ping_url: str = setting("", as_url, "told how each run of callback-run goes", secret=True)
    callback_run_ping_url_file: str = setting("", as_text, "a file that holds callback_run_ping_url")
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


def names() -> list[Field[Any]]:
    """The fields that are settings, in the order of `config show`."""
    return [f for f in fields(Settings) if f.name != "origins"]


def env_name(name: str) -> str:
    return "MONITOR_" + name.upper()


def load(path: str | None, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Settings:
    """Read the settings. `path` is --config's; `flags` are values given on the command line, None where not given.
    Raises ConfigError (78) with each key that is wrong, where it stands and the nearest known one."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {f.name: "default" for f in names()}
    faults = Faults()
    file = _find_file(path, environ)
    if file is not None:
        with faults:
            values.update(read_table(Settings, _read_file(file), str(file)))
        origins.update(dict.fromkeys(values, f"file {file}"))
    for f in names():
        if f.metadata["secret"] and (credential := find_credential(f.name, environ)) is not None:
            where = f"the credential {f.name}"
            with faults:
                values[f.name] = read_value(f, read_secret_file(str(credential), where), where)
            origins[f.name] = f"credential {credential}"
        if (raw := environ.get(env_name(f.name))) is not None and f.name != "sources":
            with faults:
                values[f.name] = read_value(f, raw, f"the environment variable {env_name(f.name)}")
            origins[f.name] = f"environment {env_name(f.name)}"
    faults.tell()
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = value
            origins[key] = "flag"
    _resolve_database(values, origins)
    values["archive_dir"] = values.get("archive_dir") or str(_data() / "archive")
    for name in ("secret_key", *(f"{job}_ping_url" for job in PINGED)):
        _keep_nearer(values, origins, name)
    return Settings(**values, origins=origins)


def ping_url(settings: Settings, job: str) -> str:
    """The URL that is told how a job (incident_sync, callback_run) goes; '' where there is none. Raises ConfigError
    (78) where its file cannot be read or holds none."""
    name = f"{job}_ping_url"
    file: str = getattr(settings, f"{name}_file")
    if not file:
        return str(getattr(settings, name))
    try:
        return as_url(read_secret_file(file, f"{name}_file"))
    except ValueError as error:
        raise ConfigError(f"{name}_file {file}: what it holds {error}") from None


def check(settings: Settings) -> None:
    """Raise ConfigError (78) where settings contradict each other, or the keys and URLs cannot be read."""
    faults = Faults()
    pings = [partial(ping_url, job=job) for job in PINGED]
    looks: list[Callable[[Settings], object]] = [secret_keys, *pings, _textfiles, _capacities, _timeouts]
    for look in looks:
        with faults:
            look(settings)
    faults.tell()


def _textfiles(settings: Settings) -> None:
    if settings.incident_sync_textfile and settings.incident_sync_textfile == settings.callback_run_textfile:
        raise ConfigError(
            "incident_sync_textfile and callback_run_textfile name one file",
            "each command writes the whole of its file: name two",
        )


def _capacities(settings: Settings) -> None:
    warning, critical = settings.capacity_warning, settings.capacity_critical
    if warning and critical and critical < warning:
        raise ConfigError(
            f"capacity_critical ({critical:g}) is below capacity_warning ({warning:g})",
            "a server would be critical before it is warning: raise capacity_critical, or set one to 0 (off)",
        )


def _timeouts(settings: Settings) -> None:
    if settings.connect_timeout > settings.total_timeout:
        raise ConfigError(
            f"connect_timeout ({settings.connect_timeout:g}) is above total_timeout ({settings.total_timeout:g})",
            "connecting is a part of the whole request: lower connect_timeout, or raise total_timeout",
        )


def _resolve_database(values: dict[str, Any], origins: dict[str, str]) -> None:
    if _says_file(values, origins, "database_url"):
        file = values["database_url_file"]
        values["database_url"] = read_secret_file(file, "database_url_file")
        origins["database_url"] = f"file {file}"
    elif not values.get("database_url"):
        values["database_url"] = _default_database()


def _keep_nearer(values: dict[str, Any], origins: dict[str, str], name: str) -> None:
    """Of a value and the file that holds it, the one said closer. The file is read by who needs it: another command's
    user need not be able to."""
    farther = name if _says_file(values, origins, name) else f"{name}_file"
    if values.pop(farther, None):
        origins[farther] = "default"


def _says_file(values: Mapping[str, Any], origins: Mapping[str, str], name: str) -> bool:
    """Whether a file says a setting: where both the value and the file are given, the one said closer by counts."""

    def nearness(key: str) -> int:
        return ("default", "file", "credential", "environment", "flag").index(origins[key].split()[0])

    file = f"{name}_file"
    return bool(values.get(file)) and not (values.get(name) and nearness(name) >= nearness(file))


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
            f"the configuration file {file}: {reason(error)}", "check --config and MONITOR_CONFIG"
        ) from None
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of over 4300 digits
        raise ConfigError(f"the configuration file {file} is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"the configuration file {file} is nested too deep") from None
