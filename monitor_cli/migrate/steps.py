"""The steps that revisions are made of. Each looks first whether it is needed, so that a revision can be repeated after
a kill half-way, and none touches what we did not make, but for adding an index to infi_voice_monitor."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from monitor_cli import schema
from monitor_cli.migrate import shape


class Steps:
    """The steps of one revision, over alembic's `op`."""

    def __init__(self, op: ModuleType) -> None:
        self._op = op
        self._shapes = shape.read_all(op.get_bind())

    def table(self, name: str, *parts: Any) -> None:
        """Create a table, unless a table or view of that name is there."""
        if name in self._shapes:
            return
        ours = name.startswith(schema.PREFIX)
        options: dict[str, Any] = {
            f"{store}_{key}": value
            for store in ("mysql", "mariadb")
            for key, value in {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}.items()
        }
        comment = schema.MADE_HERE if ours else None
        options["sqlite_autoincrement"] = any(getattr(part, "autoincrement", None) is True for part in parts)
        self._op.create_table(name, *parts, comment=comment, **options)
        self._shapes[name] = shape.Shape(name, made_here=ours)

    def index(self, name: str, table: str, *columns: str) -> None:
        """Create an index on a table that we made, or on infi_voice_monitor where none there serves instead."""
        there = self._shapes[table]
        if name in there.indexes or not (there.made_here or table == schema.monitor.name):
            return
        if table == schema.monitor.name and there.covers(columns):
            return
        self._op.create_index(name, table, list(columns))

    def drop_table(self, name: str) -> None:
        """Drop a table that we made; a view, and a table of the platform's, stays."""
        there = self._shapes.get(name)
        if there is not None and there.made_here and not there.is_view:
            self._op.drop_table(name)

    def drop_index(self, name: str, table: str) -> None:
        """Drop an index of ours (the name tells) where it is there."""
        there = self._shapes.get(table)
        if there is not None and name in there.indexes:
            self._op.drop_index(name, table)
