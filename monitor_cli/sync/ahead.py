"""The rows are fetched while the sources are read: one waits for the network, the other for the database."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from monitor_cli.db import Database
from monitor_cli.store import sync_rows
from monitor_cli.store.sync_rows import Block

BLOCKS = 8  # fetched and not yet looked at: 160 000 rows, of some 60 bytes
_LOOK_UP_SECONDS = 0.2


class Ahead:
    """The blocks of all rows, some of them ahead. A context manager that can be gone through once; fetching begins with
    it and ends with it. What fetching raises, going through raises."""

    def __init__(self, database: Database, lowest: float | None) -> None:
        self._database = database
        self._lowest = lowest
        self._fetched: queue.Queue[Block | BaseException | None] = queue.Queue(BLOCKS)
        self._over = threading.Event()

    def __enter__(self) -> Ahead:
        threading.Thread(target=self._fetch, name="rows", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def __iter__(self) -> Iterator[Block]:
        while (block := self._fetched.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block

    def _fetch(self) -> None:
        try:
            with self._database.read() as conn:
                for block in sync_rows.blocks(conn, self._lowest):
                    if not self._put(block):
                        return
        except BaseException as error:
            self._put(error)
        else:
            self._put(None)

    def _put(self, item: Block | BaseException | None) -> bool:
        """Hand over; False where nobody wants it any more."""
        while not self._over.is_set():
            try:
                self._fetched.put(item, timeout=_LOOK_UP_SECONDS)
                return True
            except queue.Full:
                continue
        return False
