"""Signatures after the Standard Webhooks specification, symmetric form (v1: HMAC-SHA256).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets as randomness
from collections.abc import Callable, Sequence
from functools import lru_cache

from monitor_cli.errors import MonitorError

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret(random_bytes: Callable[[int], bytes] = randomness.token_bytes) -> str:
    """A signing secret as a customer keeps it: whsec_ and base64."""
    return _PREFIX + base64.b64encode(random_bytes(_SECRET_BYTES)).decode("ascii")


def sign(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature: one v1 signature for each secret, blanks between. `timestamp` in unix seconds;
    `body` the exact bytes sent (Request.signed: a GET's is its request target). Raises MonitorError where a secret is
    not one."""
    content = f"{webhook_id}.{timestamp}.".encode() + body
    # Not hmac.digest, which gives up the interpreter's lock for two microseconds of work, and waits to get it back.
    digests = (hmac.new(_key(secret), content, "sha256").digest() for secret in secrets)
    return " ".join("v1," + base64.b64encode(digest).decode("ascii") for digest in digests)


def headers(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> tuple[tuple[str, str], ...]:
    """The three webhook-* headers of a request. Raises as `sign` does."""
    return (
        ("webhook-id", webhook_id),
        ("webhook-timestamp", str(timestamp)),
        ("webhook-signature", sign(secrets, webhook_id, timestamp, body)),
    )


@lru_cache(maxsize=4096)
def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise MonitorError("a callback's signing secret cannot be read", "make a new one: callback rotate-secret")
    return key
