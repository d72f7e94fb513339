"""Signatures after the Standard Webhooks specification, symmetric form (v1: HMAC-SHA256).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import secrets as randomness
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from monitor_cli.errors import MonitorError

if TYPE_CHECKING:
    from _hashlib import HASH

_PREFIX = "whsec_"
_SECRET_BYTES = 32
# What each byte of the key is in HMAC's two hashes (RFC 2104).
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def new_secret(random_bytes: Callable[[int], bytes] = randomness.token_bytes) -> str:
    """A signing secret as a customer keeps it: whsec_ and base64."""
    return _PREFIX + base64.b64encode(random_bytes(_SECRET_BYTES)).decode("ascii")


def sign(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature: one v1 signature for each secret, blanks between. `timestamp` in unix seconds;
    `body` the exact bytes sent (Request.signed: a GET's is its request target). Raises MonitorError where a secret is
    not one."""
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return " ".join(["v1," + base64.b64encode(_hmac(secret, content)).decode("ascii") for secret in secrets])


def headers(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> tuple[tuple[str, str], ...]:
    """The three webhook-* headers of a request. Raises as `sign` does."""
    return (
        ("webhook-id", webhook_id),
        ("webhook-timestamp", str(timestamp)),
        ("webhook-signature", sign(secrets, webhook_id, timestamp, body)),
    )


def _hmac(secret: str, content: bytes) -> bytes:
    keyed_inner, keyed_outer = _keyed(secret)
    inner, outer = keyed_inner.copy(), keyed_outer.copy()
    inner.update(content)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=4096)
def _keyed(secret: str) -> tuple[HASH, HASH]:
    """HMAC's two hashes with the key in them. A request goes on from copies: in half the time of hmac.new, and without
    giving up the interpreter's lock, as hmac.digest does for two microseconds of work, and waits to get it back."""
    key = _key(secret)
    block = (sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    return sha256(block.translate(_INNER)), sha256(block.translate(_OUTER))


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise MonitorError("a callback's signing secret cannot be read", "make a new one: callback rotate-secret")
    return key
