"""Rows of the past, for what archives them: history, deliveries and attempts at so many days ago.

past = Past(world)
past.change(server, days=100)
past.delivery(callback, days=100, attempts=2)
"""

from __future__ import annotations

import time
from typing import Any

from monitor_cli import schema
from monitor_cli.store.archivable import TABLES
from tests.support.world import World

DAY = 86_400_000
ODD = 'é\n"\\ \x1f, दिल्ली 🎉 '  # what a line of JSON has to carry


def midnight(days: int) -> int:
    """The UTC midnight that began the day so many days ago, in milliseconds."""
    now = int(time.time() * 1000)
    return now - now % DAY - days * DAY


class Past:
    """Builders over a world. A row is from the `hour`th hour of the day so many `days` ago."""

    def __init__(self, world: World) -> None:
        self.world = world

    def change(self, server: int, *, days: int, hour: float = 12, **columns: Any) -> int:
        row = {
            "monitor_id": server,
            "server_id": 1,
            "name": ODD,
            "channel_id": 1,
            "region": "karnataka",
            "region_code": "KA-IN",
            "from_type": "operational",
            "to_type": "critical",
            "source": "carrier",
            "incident_status": "major_outage",
            "incident_title": ODD,
            "flag_stood": 0,
            "planned": 1,
            "created_at": at(days, hour),
            **columns,
        }
        return self._insert(schema.change, row)

    def delivery(
        self, callback: int, *, days: int, hour: float = 12, attempts: int = 1, state: str = "done", **columns: Any
    ) -> int:
        """A delivery that was settled two seconds after it was created, with its attempts."""
        created = at(days, hour)
        row = {
            "callback_id": callback,
            "state": state,
            "attempts": attempts,
            "created_at": created,
            "settled_at": None if state == "open" else created + 2000,
            "open_callback_id": callback if state == "open" else None,
            **columns,
        }
        key = self._insert(schema.delivery, row)
        for number in range(attempts):
            self.attempt(key, started_at=created + number)
        return key

    def attempt(self, delivery: int, *, started_at: int, **columns: Any) -> int:
        row = {
            "delivery_id": delivery,
            "started_at": started_at,
            "duration_ms": 120,
            "http_status": 200,
            "response": ODD,
            "webhook_id": f"msg_{delivery:032x}",
            **columns,
        }
        return self._insert(schema.attempt, row)

    def rows(self) -> dict[str, dict[int, Any]]:
        """Every row of the tables that are archived, by table and id."""
        return {name: {row[0]: tuple(row) for row in self.world.rows(table)} for name, table in TABLES.items()}

    def _insert(self, table: Any, row: dict[str, Any]) -> int:
        return self.world._insert(table, row)


def at(days: int, hour: float) -> int:
    return midnight(days) + int(hour * 3_600_000)
