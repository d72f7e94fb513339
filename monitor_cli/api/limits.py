"""Rate limits: of a key, of an address, and of an address's bad keys (SPEC 9).

A bad key is charged to its address in tables of their own, so that no number of them refuses a valid key. A valid key
is charged once it is known to be one: nobody can fill the table with keys that do not exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from monitor_cli.api.buckets import Buckets, Rate
from monitor_cli.api.client import account_of
from monitor_cli.config import Settings

_KEYS, _ADDRESSES, _STRANGERS, _BAD_KEYS = range(4)
_CLIENTS_KEPT = 4096


class Refusal(NamedTuple):
    """Too many requests of one kind: `limit` is the word for it, `seconds` how long to wait, at least 1."""

    limit: str
    seconds: int


class Limits:
    """Judges requests by the settings' rates, with buckets that are shared or this process's own. `client` is an
    address, or None for one that nobody is held to account for; `digest` a key's SHA-256 in hex."""

    def __init__(self, settings: Settings, buckets: Buckets, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._buckets = buckets
        self._clock = clock
        self._key = Rate.of(settings.api_rate_per_key, settings.api_burst_per_key)
        self._address = Rate.of(settings.api_rate_per_address, settings.api_burst_per_address)
        self._bad = Rate.of(settings.api_bad_keys_per_minute / 60, settings.api_bad_keys_per_minute)
        self._of = lru_cache(_CLIENTS_KEPT)(lambda client: buckets.name(account_of(client).encode()))

    def before(self, client: str | None, digest: str) -> Refusal | None:
        """Whether a request is refused whatever the database would say. Charges nothing."""
        now = self._clock()
        if self._key and (wait := self._buckets.wait(_KEYS, _name(digest), self._key, now)):
            return _refusal("key", wait)
        if self._address and client and (wait := self._buckets.wait(_ADDRESSES, self._of(client), self._address, now)):
            return _refusal("address", wait)
        return None

    def known(self, client: str | None, digest: str) -> Refusal | None:
        """Charge a request with a valid key to the key and to its address."""
        now = self._clock()
        if self._key and (wait := self._buckets.take(_KEYS, _name(digest), self._key, now)):
            return _refusal("key", wait)
        return self._charge("address", _ADDRESSES, client, self._address, now)

    def unknown(self, client: str | None) -> Refusal | None:
        """Charge a request with a missing or an unknown key to its address."""
        now = self._clock()
        return self._charge("bad_keys", _BAD_KEYS, client, self._bad, now) or self.stranger(client)

    def stranger(self, client: str | None) -> Refusal | None:
        """Charge a request that has no key to be told by."""
        return self._charge("address", _STRANGERS, client, self._address, self._clock())

    def _charge(self, limit: str, table: int, client: str | None, rate: Rate | None, now: int) -> Refusal | None:
        if rate is None or client is None:
            return None
        wait = self._buckets.take(table, self._of(client), rate, now)
        return _refusal(limit, wait) if wait else None


def _name(digest: str) -> int:
    return int(digest[:16], 16) or 1  # only valid keys get a bucket, and those nobody can choose


def _refusal(limit: str, wait: int) -> Refusal:
    return Refusal(limit, max(1, -(-wait // 1_000_000_000)))
