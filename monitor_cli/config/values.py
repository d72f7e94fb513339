"""How a setting's value is read: from TOML as it comes, from the environment and flags as text.

Each reader gives the value or raises ValueError with words that follow the setting's name.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from monitor_cli.errors import ConfigError

CREDENTIALS = "CREDENTIALS_DIRECTORY"
_KNOWN = "known keys: "
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def setting(default: Any, read: Callable[[object], Any], text: str, *, secret: bool = False) -> Any:
    """A field of Settings (or Source): its default, how it is read, what it is for."""
    metadata = {"read": read, "help": text, "secret": secret}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class Faults(AbstractContextManager["Faults"]):
    """What is wrong, so that all of it is told at once: each `with` keeps the ConfigError that it ended with."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, ConfigError):
            return False
        self.found += error.faults if isinstance(error, _Several) else [error]
        return True

    def tell(self) -> None:
        """Raise ConfigError (78) with everything that was found."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else _Several(self.found)


class _Several(ConfigError):
    def __init__(self, faults: Sequence[ConfigError]) -> None:
        lines = (f"{fault.message}{f' ({fault.hint})' if _brief(fault.hint) else ''}" for fault in faults)
        super().__init__("\n  - ".join((f"{len(faults)} things in the configuration cannot be used:", *lines)))
        self.faults = list(faults)


def _brief(hint: str | None) -> bool:
    """Not the list of every key: it would hide the other lines."""
    return bool(hint) and not str(hint).startswith(_KNOWN)


def read_table(kind: type, table: dict[str, Any], where: str, elsewhere: Collection[str] = ()) -> dict[str, Any]:
    """The values of a TOML table. `elsewhere`: keys of the file's top level, which TOML takes for this table's where
    they stand after its head. Raises ConfigError (78) with every key and value that cannot be used."""
    known = {f.name: f for f in fields(kind) if "read" in f.metadata}
    values = {}
    faults = Faults()
    for key, value in table.items():
        with faults:
            if key not in known:
                raise ConfigError(f"{where}: unknown key {key!r}", _nearest(key, known, elsewhere))
            values[key] = read_value(known[key], value, where)
    faults.tell()
    return values


def _nearest(key: str, known: Collection[str], elsewhere: Collection[str]) -> str:
    if key in elsewhere:
        return f"{key} is a setting of the whole file: it has to stand above the first [[table]]"
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"{_KNOWN}{', '.join(known)}"


def read_value(f: Field[Any], value: object, where: str) -> Any:
    try:
        return f.metadata["read"](value)
    except ValueError as error:
        raise ConfigError(f"{where}: {f.name} {error}") from None


def reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def find_credential(name: str, environ: Mapping[str, str]) -> Path | None:
    """The file of a credential that the service manager hands over (systemd.exec(5), LoadCredential=); None where
    there is none of this name."""
    directory = environ.get(CREDENTIALS)
    if not directory:
        return None
    path = Path(directory, name)
    with suppress(PermissionError):  # it may be there: reading it says why not
        return path if path.exists() else None
    return path


def read_secret_file(path: str, setting_name: str) -> str:
    """What a file that holds a secret says, without blanks around it. A path may begin with $CREDENTIALS_DIRECTORY/.
    Raises ConfigError where the file cannot be read, or says nothing: no default takes the place of a secret."""
    try:
        text = Path(_expanded(path)).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{setting_name} {path}: {reason(error)}", "check the path and who may read it") from None
    if not text:
        raise ConfigError(f"{setting_name} {path}: the file is empty")
    return text


def _expanded(path: str) -> str:
    for start in (f"${CREDENTIALS}/", f"${{{CREDENTIALS}}}/"):
        if path.startswith(start):
            directory = os.environ.get(CREDENTIALS)
            if not directory:
                raise ValueError(f"${CREDENTIALS} is set by a service manager alone (LoadCredential=), and is not set")
            return str(Path(directory, path.removeprefix(start)))
    return path


def as_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def as_url(value: object) -> str:
    """An http or https URL, or nothing. Its text is in no words: a key may stand in it."""
    text = as_text(value).strip()
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        fits = False
    if text and (not fits or " " in text):
        raise ValueError("is no http or https URL (as https://host/path)")
    return text


def as_file(value: object) -> str:
    path = as_text(value)
    try:
        if path:
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        raise ValueError(f"names a file that cannot be read: {path}: {reason(error)}") from None
    return path


def as_integer(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def as_number(low: float, high: float) -> Callable[[object], float]:
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


def as_items(value: object) -> list[Any]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError("must be a list (in the environment: separated by commas)")


def as_networks(value: object) -> tuple[Network, ...]:
    items = as_items(value)
    try:
        return tuple(ipaddress.ip_network(item) for item in items)
    except (ValueError, TypeError) as error:
        raise ValueError(f"must be networks as 10.1.0.0/16 or fd00::/8: {error}") from None


def as_seconds_list(value: object) -> tuple[float, ...]:
    read, items = as_number(0, 30 * 86400), as_items(value)
    try:
        return tuple(map(read, items))
    except ValueError as error:
        raise ValueError(f"{error}, in seconds, each (with commas between, as 5,300,1800)") from None


def as_words(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise ValueError('must be a table of text, as { partial_outage = "critical" }')
    return dict(value)


def as_types(value: object) -> dict[str, str]:
    words = as_words(value)
    for word, kind in words.items():
        if kind not in ("operational", "warning", "critical"):
            raise ValueError(f"maps {word!r} to {kind!r}, which is none of operational, warning, critical")
    return words


def as_headers(value: object) -> dict[str, str]:
    headers = as_words(value)
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
