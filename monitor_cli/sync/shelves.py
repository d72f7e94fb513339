"""The documents that the database keeps of each source, for asking only for what has changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from monitor_cli.db import Connection, Database
from monitor_cli.sources.memory import Remembered, Shelf, Validator
from monitor_cli.store import documents
from monitor_cli.store.documents import Head, Key


class Shelves:
    """What is kept of some sources. Documents themselves are read when a server says that they have not changed."""

    def __init__(self, database: Database, names: Collection[str]) -> None:
        self._database = database
        with database.read() as conn:
            self._heads = documents.heads(conn, names)

    def of(self, name: str) -> Shelf:
        """The shelf of a source."""
        return _Shelf(self._database, name, self._heads)

    def settle(self, conn: Connection, read: Mapping[str, Remembered]) -> None:
        """Keep what is new in what was read, by source; forget what was not asked for any more, or has no validator any
        more, and sources that are no more."""
        gone = [key for key in self._heads if key.source in read and key.address not in read[key.source].same]
        documents.forget(conn, gone)
        for name, remembered in read.items():
            for address, one in remembered.new.items():
                head = Head(*one.validator)
                documents.keep(conn, Key(name, address), head, one.packed)
        if abandoned := documents.abandoned(conn, read.keys()):
            documents.forget_sources(conn, abandoned)


class _Shelf:
    def __init__(self, database: Database, name: str, heads: Mapping[Key, Head]) -> None:
        self._database = database
        self._name = name
        self._heads = heads

    def validator(self, address: str) -> Validator | None:
        head = self._heads.get(Key(self._name, address))
        return None if head is None or head.old else Validator(head.found_at, head.etag, head.last_modified)

    def packed(self, address: str) -> bytes | None:
        with self._database.read() as conn:
            return documents.packed(conn, Key(self._name, address))
