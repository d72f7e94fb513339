"""Rows for tests, written quickly and straight through SQLAlchemy: servers, accounts, numbers, callbacks, flags.

world = World(database)
server = world.server(channel=7)
acme = world.account("acme", key="secret-key")
world.number(acme, "+911", channel=7)
callback = world.callback(acme, receiver.url("/hook"), payload="data={response}")
world.flag(server, "critical")
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, func, select, update

from monitor_cli import schema
from monitor_cli.db import Database
from monitor_cli.dialect import now_ms

SECRET = "whsec_" + base64.b64encode(b"a secret for tests, 32 bytes long").decode()


class World:
    """Builders over one database; every call is a transaction of its own."""

    def __init__(self, database: Database | Any) -> None:
        self.database: Database = database if isinstance(database, Database) else database.database
        self._numbers = 0

    def server(
        self,
        *,
        channel: int = 1,
        region: str | None = "karnataka",
        region_code: str | None = "KA-IN",
        tag: str | None = None,
        name: str | None = None,
        server_id: int | None = None,
        incident_status: str | None = "operational",
        final_status: str | None = "operational",
        status_report: int = 0,
        **columns: Any,
    ) -> int:
        """A row of infi_voice_monitor; gives its id."""
        self._numbers += 1
        row = {
            "server_id": server_id or self._numbers,
            "name": name or f"server {self._numbers}",
            "server_tag": tag or f"tag-{self._numbers}",
            "channel_id": channel,
            "capacity": 0,
            "used": 0,
            "region": region,
            "region_code": region_code,
            "incident_status": incident_status,
            "final_status": final_status,
            "status_report": status_report,
            "created": int(time.time()),
            "modified": int(time.time()),
            **columns,
        }
        return self._insert(schema.monitor, row)

    def account(self, name: str, *, key: str | None = None, subscribed: bool | None = True) -> int:
        """An account; `subscribed` None: no subscription row at all."""
        digest = hashlib.sha256((key or f"key of {name}").encode()).hexdigest()
        account_id = self._insert(schema.account, {"name": name, "api_key_sha256": digest})
        if subscribed is not None:
            self.subscribe(account_id, subscribed)
        return account_id

    def subscribe(self, account_id: int, active: bool = True) -> None:
        s = schema.subscription
        with self.database.write() as conn:
            conn.execute(s.delete().where(s.c.account_id == account_id))
            conn.execute(s.insert().values(account_id=account_id, active=int(active)))

    def number(self, account_id: int, *numbers: str, channel: int = 1) -> None:
        """Numbers of an account on a channel."""
        rows = [{"account_id": account_id, "number": number, "channel_id": channel} for number in numbers]
        with self.database.write() as conn:
            conn.execute(schema.number.insert(), rows)

    def callback(
        self,
        account_id: int,
        url: str,
        *,
        payload: str | None = None,
        headers: list[tuple[str, str]] | tuple[tuple[str, str], ...] = (),
        raw_json: bool = False,
        active: bool = True,
        title: str = "A callback",
        name: str | None = None,
        secret: str = SECRET,
        **columns: Any,
    ) -> int:
        """A callback as `callback add` writes it; gives its id. It hears of changes from now on."""
        self._numbers += 1
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with self.database.write() as conn:
            now = now_ms(conn)
            row = {
                "account_id": account_id,
                "title": title,
                "name": name or f"callback {self._numbers}",
                "url": url,
                "destination": f"{parts.hostname}:{port}",
                "payload": payload,
                "headers": json.dumps([list(pair) for pair in headers]),
                "raw_json": int(raw_json),
                "active": int(active),
                "failures": 0,
                "hears_from": conn.execute(select(func.coalesce(func.max(schema.change.c.id), 0))).scalar_one(),
                "secret": secret,
                "created_at": now,
                "modified_at": now,
                **columns,
            }
            return _id(conn, schema.callback, row)

    def flag(self, server: int, kind: str, *, word: str | None = None, source: str = "test", **change: Any) -> int:
        """A type change as incident-sync writes it, in one transaction: final_status, the flag, a history row; gives
        the change's id. `kind`: operational, warning or critical."""
        m = schema.monitor
        word = word or {"operational": "operational", "warning": "partial_outage"}.get(kind, "major_outage")
        with self.database.write() as conn:
            row = conn.execute(select(m).where(m.c.id == server).with_for_update()).one()
            values = {"incident_status": word, "final_status": kind, "status_report": 1, "modified": int(time.time())}
            conn.execute(update(m).where(m.c.id == server).values(values))
            before = (row.final_status or "").strip().lower()
            history = {
                "monitor_id": server,
                "server_id": row.server_id,
                "name": row.name,
                "channel_id": row.channel_id,
                "region": row.region or "",
                "region_code": row.region_code or "",
                "from_type": before if before in ("operational", "warning", "critical") else None,
                "to_type": kind,
                "source": source,
                "incident_status": word,
                "flag_stood": int(row.status_report == 1),
                "planned": 0,
                "created_at": now_ms(conn),
                **change,
            }
            return _id(conn, schema.change, history)

    def flag_by_hand(self, server: int, kind: str | None = None) -> None:
        """What another program does: the flag (and final_status), no history row."""
        m = schema.monitor
        values: dict[str, Any] = {"status_report": 1, **({"final_status": kind} if kind else {})}
        with self.database.write() as conn:
            conn.execute(update(m).where(m.c.id == server).values(values))

    # --- reading back ---------------------------------------------------------------------------------------------

    def rows(self, table: Any) -> list[Any]:
        """Every row of a table, in the order of its primary key."""
        with self.database.read() as conn:
            return list(conn.execute(select(table).order_by(*table.primary_key.columns)).all())

    def server_row(self, server: int) -> Any:
        return self._one(schema.monitor, server)

    def callback_row(self, callback: int) -> Any:
        return self._one(schema.callback, callback)

    def owed(self, callback: int | None = None, *, all_rows: bool = False) -> list[Any]:
        """What is owed (wanted > told), of one callback or of all; `all_rows`: what is settled too."""
        rows = self.rows(schema.owed)
        return [r for r in rows if (all_rows or r.wanted > r.told) and callback in (None, r.callback_id)]

    def deliveries(self, callback: int | None = None) -> list[Any]:
        return [row for row in self.rows(schema.delivery) if callback in (None, row.callback_id)]

    def attempts(self) -> list[Any]:
        return self.rows(schema.attempt)

    def changes(self) -> list[Any]:
        return self.rows(schema.change)

    def _one(self, table: Any, key: int) -> Any:
        with self.database.read() as conn:
            return conn.execute(select(table).where(table.c.id == key)).one()

    def _insert(self, table: Any, row: dict[str, Any]) -> int:
        with self.database.write() as conn:
            return _id(conn, table, row)


def _id(conn: Connection, table: Any, row: dict[str, Any]) -> int:
    key = conn.execute(table.insert().values(**row)).inserted_primary_key
    assert key is not None
    return int(key[0])
