"""The truth of a fault run: types change as incident-sync changes them, and it is written down when each was true.

The moment of a COMMIT is known to lie between the moment before it and the moment after it, or, where the database
died in it, the moment at which that was noticed; whether it was carried out is read from the database afterwards.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, func, select, update

from monitor_cli import schema
from monitor_cli.db import Database
from monitor_cli.dialect import now_ms
from monitor_cli.errors import DatabaseAway
from monitor_cli.store import callbacks
from tests.fault.scene import Scene, Unit

T = TypeVar("T")

TYPES = ("operational", "warning", "critical")
MOST_DISABLED = 30


@dataclass(frozen=True)
class Version:
    """A type that a unit had from some moment between `earliest` and `latest` on (unix time)."""

    type: str
    earliest: float
    latest: float


class Syncer(threading.Thread):
    """Changes types, `pace` times a second, until `quit`. Sometimes several servers at once, sometimes one several
    times in a row, sometimes as another program does it: type and flag, no history. It also disables callbacks and
    enables them again."""

    AT_ONCE = (1, 1, 1, 2, 4)  # servers
    FOREIGN = 0.07  # of the changes, by another program

    def __init__(self, database: Database, scene: Scene, pace: float, rng: random.Random) -> None:
        super().__init__(name="syncer", daemon=True)
        self._database, self._scene, self._pace, self._rng = database, scene, pace, rng
        self._quit = threading.Event()
        self._types = dict.fromkeys(scene.units, TYPES[0])
        self._versions = dict.fromkeys(scene.units, 0)  # by server: how often it was changed; kept in `used`
        self._disabled: set[int] = set()
        self.truth: dict[Unit, list[Version]] = {unit: [Version(TYPES[0], 0, 0)] for unit in scene.units.values()}
        self.planned = 0  # owed changes that were planned, as far as known
        self.changes = 0
        self.foreign = 0
        self.error: BaseException | None = None

    def quit(self) -> None:
        """End, with all callbacks enabled; raises what went wrong."""
        self._quit.set()
        self.join(120)
        assert not self.is_alive(), "the syncer does not come to an end"
        if self.error:
            raise self.error

    def run(self) -> None:
        try:
            while not self._quit.wait(self._rng.expovariate(self._pace)):
                self._step()
            self._switch(callbacks.enable, self._disabled)
        except BaseException as error:
            self.error = error

    # --- one step -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        dice = self._rng.random()
        servers = self._rng.sample(sorted(self._types), self._rng.choice(self.AT_ONCE))
        if dice < 0.1:  # a flap: the same servers again and again
            for _ in range(self._rng.choice((2, 3, 4))):
                self._change(servers, foreign=False)
                time.sleep(self._rng.uniform(0, 0.1))
        else:
            self._change(servers, foreign=dice > 1 - self.FOREIGN)
        if self._rng.random() < 0.1:
            self._toggle()
        wanted = select(func.coalesce(func.sum(schema.owed.c.wanted), 0))
        self.planned = int(self._patiently(lambda conn: conn.execute(wanted).scalar_one()))

    def _toggle(self) -> None:
        if self._disabled and (len(self._disabled) >= MOST_DISABLED or self._rng.random() < 0.5):
            some = set(self._rng.sample(sorted(self._disabled), self._rng.randint(1, len(self._disabled))))
            self._switch(callbacks.enable, some)
            self._disabled -= some
        else:
            some = set(self._rng.sample(sorted(self._scene.callbacks.values()), 5))
            self._switch(callbacks.disable, some)
            self._disabled |= some

    def _switch(self, how: Callable[[Connection, list[int]], None], ids: set[int]) -> None:
        if ids:
            self._patiently(lambda conn: how(conn, sorted(ids)))

    def _change(self, servers: list[int], *, foreign: bool) -> None:
        """Give servers their next type, in one transaction."""
        new = {server: self._next_type(self._types[server]) for server in servers}
        earliest, latest = self._carry_out(new, foreign)
        self._types.update(new)
        self.changes += len(servers)
        self.foreign += len(servers) if foreign else 0
        for unit in {self._scene.units[server] for server in servers}:
            kinds = [kind for server, kind in self._types.items() if self._scene.units[server] == unit]
            self.truth[unit].append(Version(max(kinds, key=TYPES.index), earliest, latest))

    def _carry_out(self, new: dict[int, str], foreign: bool) -> tuple[float, float]:
        """Write it, whatever dies; between which two moments (unix time) it was committed."""
        while True:
            committing = None
            try:
                with self._database.write() as conn:
                    self._write(conn, new, foreign)
                    committing = time.time()
                span = committing, time.time()
                break
            except DatabaseAway:
                noticed = time.time()
                if committing is not None and self._was_committed(min(new)):
                    span = committing, noticed
                    break
                time.sleep(0.1)
        for server in new:
            self._versions[server] += 1
        return span

    def _next_type(self, now: str) -> str:
        step = 1 if self._rng.random() < 0.8 else 2
        return TYPES[(TYPES.index(now) + step) % len(TYPES)]

    def _write(self, conn: Connection, new: dict[int, str], foreign: bool) -> None:
        m = schema.monitor
        rows = conn.execute(select(m).where(m.c.id.in_(new)).order_by(m.c.id).with_for_update()).all()
        for row in rows:
            assert row.used == self._versions[row.id], "a change was lost before our eyes"
            values = {"final_status": new[row.id], "status_report": 1, "used": row.used + 1}
            conn.execute(update(m).where(m.c.id == row.id).values(**values))
        if foreign:
            return
        now = now_ms(conn)
        history = [
            {
                "monitor_id": row.id,
                "server_id": row.server_id,
                "name": row.name,
                "channel_id": row.channel_id,
                "region": row.region,
                "region_code": row.region_code,
                "from_type": row.final_status,
                "to_type": new[row.id],
                "flag_stood": int(row.status_report == 1),
                "planned": 0,
                "created_at": now,
            }
            for row in rows
        ]
        conn.execute(schema.change.insert(), history)

    def _was_committed(self, server: int) -> bool:
        used = select(schema.monitor.c.used).where(schema.monitor.c.id == server)
        return self._patiently(lambda conn: conn.execute(used).scalar_one()) == self._versions[server] + 1

    def _patiently(self, work: Callable[[Connection], T]) -> T:
        while True:
            try:
                return self._database.transact(work)
            except DatabaseAway:
                time.sleep(0.1)
