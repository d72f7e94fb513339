"""The keys that customers' secrets are encrypted under: `secret_key`, or the file that `secret_key_file` names."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Protocol

from monitor_cli.config.values import as_text, read_secret_file
from monitor_cli.errors import ConfigError

KEY_BYTES = 32
_FEWEST_VALUES = 12  # of bytes; 32 random ones have fewer once in more than 10^20 times
_HINT = "make one: openssl rand -base64 32"


class HasKeys(Protocol):
    """Settings, as far as they concern this."""

    @property
    def secret_key(self) -> str: ...
    @property
    def secret_key_file(self) -> str: ...


def as_secret_key(value: object) -> str:
    """A setting's reader: the keys as text, commas between. A value is never repeated in the words."""
    parts = value if isinstance(value, list) else [value]
    text = ",".join(map(as_text, parts))
    decode_keys(text)
    return text


def secret_keys(settings: HasKeys) -> tuple[bytes, ...]:
    """The keys, the one that encrypts first; none where no setting names any. Raises ConfigError (78) where the file
    cannot be read or holds something else."""
    if not settings.secret_key_file:
        return decode_keys(settings.secret_key)
    path = settings.secret_key_file
    try:
        keys = decode_keys(read_secret_file(path, "secret_key_file"))
    except ValueError as error:
        raise ConfigError(f"secret_key_file {path} {error}", _HINT) from None
    if not keys:
        raise ConfigError(f"secret_key_file {path} holds no key", _HINT)
    return keys


def decode_keys(text: str) -> tuple[bytes, ...]:
    """Keys from text, with commas, blanks or line ends between; lines that begin with # are left out. Raises ValueError
    with words that follow the name of what they are in."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    words = [word for line in lines for word in re.split(r"[,\s]+", line) if word]
    return tuple(_decode(number, word) for number, word in enumerate(words, 1))


def _decode(number: int, word: str) -> bytes:
    which = f"must be base64 text of at least {KEY_BYTES} random bytes (openssl rand -base64 32), and key {number}"
    try:
        key = base64.b64decode(word.translate({ord("-"): "+", ord("_"): "/"}), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{which} is not base64") from None
    if len(key) < KEY_BYTES:
        raise ValueError(f"{which} has {len(key)} bytes")
    if len(set(key)) < _FEWEST_VALUES:
        raise ValueError(f"{which} is not random")
    return key
