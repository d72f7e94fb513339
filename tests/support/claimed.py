"""Claimed deliveries for pure tests of what is decided about them: as store.claims reads them, without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitor_cli.store.claims import CallbackRow, Claimed, OwedUnit
from monitor_cli.types import Region, Type, Unit
from tests.support.world import SECRET

KARNATAKA = Region("karnataka", "KA-IN")
NOW = 1_700_000_000_123


def unit(channel: int = 1, region: Region = KARNATAKA) -> Unit:
    return Unit(channel, region)


def owes(
    channel: int = 1,
    told: Type | None = Type.OPERATIONAL,
    *,
    wanted: int = 1,
    unsure: bool = False,
    region: Region = KARNATAKA,
) -> OwedUnit:
    return OwedUnit(unit(channel, region), wanted, told, unsure)


def callback_row(**columns: Any) -> CallbackRow:
    row = {
        "id": 7,
        "account_id": 3,
        "url": "https://customer.test/hook",
        "destination": "customer.test:443",
        "payload": None,
        "headers": (),
        "raw_json": True,
        "secrets": (SECRET,),
        "failures": 0,
        "failing_since": None,
        "modified_at": 5,
    }
    return CallbackRow(**{**row, **columns})


def claimed(
    owed: Sequence[OwedUnit] = (owes(),),
    types: Mapping[int, Type | None] | None = None,
    numbers: Mapping[int, Sequence[str]] | None = None,
    *,
    of: CallbackRow | None = None,
    **facts: Any,
) -> Claimed:
    """A claimed delivery whose channels are critical and have one number each, unless said otherwise (by channel)."""
    channels = {one.unit.channel_id for one in owed}
    given_types = types or {}
    given_numbers = numbers or {}
    found = {
        "id": 11,
        "token": "t" * 32,
        "rearmed": 2,
        "attempts": 0,
        "created_at": NOW - 1000,
        "content_hash": None,
        "content_at": None,
        "parts_done": frozenset(),
        "callback": of or callback_row(),
        "owed": tuple(owed),
        "types": {one.unit: given_types.get(one.unit.channel_id, Type.CRITICAL) for one in owed},
        "numbers": {channel: tuple(given_numbers.get(channel, (f"+91{channel}",))) for channel in channels},
        "now": NOW,
    }
    return Claimed(**{**found, **facts})
