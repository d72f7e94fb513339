"""Customers' secrets as the tables hold them: encrypted under `secret_key` where that is set.

AES-256-GCM (NIST SP 800-38D) with a random nonce; what a text belongs to (its callback and column) is authenticated
with it, so that it can be read nowhere else. A sealed text is `monitor-sealed:1:<key's id>:<base64 of nonce and
ciphertext>`; 1 is the version of this form. What has no such prefix is plain, as it was written without a key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from monitor_cli.config import Settings, secret_keys
from monitor_cli.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "monitor-sealed:"
_FORM = PREFIX + "1:"
_NONCE_BYTES = 12
_ID_BYTES = 8
_HINT = "set secret_key or secret_key_file to the key that encrypted it, beside a newer one (docs/configuration.md)"


class Unreadable(ConfigError):
    """A sealed text cannot be read with the keys at hand. Exit code 78."""


class _Key:
    """One key: its id, and the cipher with its key schedule, made when first used."""

    def __init__(self, secret: bytes) -> None:
        # One secret, two uses: each has a key of its own (HMAC as the expansion of RFC 5869).
        self.id = hmac.digest(secret, b"monitor-cli sealing: id", "sha256")[:_ID_BYTES].hex()
        self._cipher_key = hmac.digest(secret, b"monitor-cli sealing: AES-256-GCM", "sha256")

    @cached_property
    def cipher(self) -> AESGCM:
        # Here, since it takes longer to import than most commands do their work, and few have a key to use.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._cipher_key)


class Keyring:
    """The keys of `secret_key`, each at least 32 random bytes: the first one seals, all of them open. Without any,
    texts are written plain, and only plain ones can be read."""

    def __init__(self, secrets: Sequence[bytes] = (), *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._keys = [_Key(secret) for secret in secrets]
        self._by_id = {key.id: key for key in self._keys}
        self._random_bytes = random_bytes

    @classmethod
    def of(cls, settings: Settings) -> Keyring:
        """The keys that the settings name. Raises ConfigError (78) where they cannot be read."""
        return cls(secret_keys(settings))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def seal(self, text: str, place: str) -> str:
        """A text as a column holds it. `place` names the row and the column, and is needed to read it again."""
        if not self._keys:
            return text
        key, nonce = self._keys[0], self._random_bytes(_NONCE_BYTES)
        sealed = nonce + key.cipher.encrypt(nonce, text.encode(), place.encode())
        return f"{_FORM}{key.id}:{base64.b64encode(sealed).decode('ascii')}"

    def open(self, stored: str, place: str) -> str:
        """What a column's text says. Raises Unreadable where its key is not at hand, or where it was sealed for another
        place or altered since."""
        if not stored.startswith(PREFIX):
            return stored
        key = self._key_of(stored, place)
        try:
            raw = base64.b64decode(stored[len(_FORM) + 2 * _ID_BYTES + 1 :])
            return key.cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()).decode()
        except (ValueError, binascii.Error):
            pass
        except Exception as error:
            from cryptography.exceptions import InvalidTag

            if not isinstance(error, InvalidTag):
                raise
        raise Unreadable(
            f"{place} cannot be read: it was altered, or sealed for another place",
            "give it anew: callback rotate-secret --drop-old, or callback edit --header",
        )

    def can_open(self, stored: str) -> bool:
        """Whether a text is plain, or its key is at hand."""
        return not stored.startswith(PREFIX) or _id_of(stored) in self._by_id

    def is_current(self, stored: str) -> bool:
        """Whether `seal` would write a text so: under the first key, or plain where there is none."""
        return _id_of(stored) == (self._keys[0].id if self._keys else None)

    def _key_of(self, stored: str, place: str) -> _Key:
        found = _id_of(stored)
        if found in self._by_id:
            return self._by_id[found]
        if not stored.startswith(_FORM):
            raise Unreadable(f"{place} cannot be read: this version does not know its form", "install a newer one")
        if not self._keys:
            raise Unreadable(f"{place} cannot be read: it is encrypted, and secret_key is not set", _HINT)
        raise Unreadable(f"{place} cannot be read: it is encrypted under another key than those of secret_key", _HINT)


PLAIN = Keyring()
"""No key: what the tables hold is plain."""


def is_sealed(stored: str) -> bool:
    return stored.startswith(PREFIX)


def _id_of(stored: str) -> str | None:
    """The id of the key that sealed a text; None for a plain one, or one of another form."""
    return stored[len(_FORM) :].partition(":")[0] if stored.startswith(_FORM) else None
