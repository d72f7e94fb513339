"""How alembic reaches the database: `monitor-cli db` hands its connection over; the alembic command, which developers
call in a checkout (`alembic revision`, `alembic history`), opens the configured one."""

from __future__ import annotations

import os

from alembic.util import CommandError
from sqlalchemy import Connection

from alembic import context
from monitor_cli import config, schema
from monitor_cli.db import Database


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=schema.metadata,
        version_table=schema.VERSION_TABLE,
        transactional_ddl=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise CommandError("each step looks at the database first: there is no --sql")
given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    database = Database(config.load(None, os.environ).database_url, create=True)
    with database.write() as conn:
        migrate(conn)
    database.close()
