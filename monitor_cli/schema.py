"""The tables. infi_voice_monitor belongs to the platform and is only adopted; the others, with the prefix, are ours.

Times of ours are milliseconds since 1970 by the database's clock (columns `*_at`, lease_until, not_before); created
and modified of infi_voice_monitor are seconds. What is copied from infi_voice_monitor into tables of ours has wider
columns there (BIGINT, 255 characters), since an adopted one may be wider than ours. Why each delivery table looks as
it does: docs/delivery.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

REVISIONS = ("0001",)  # of the migrations, the oldest first; a test holds them against alembic's
REVISION = REVISIONS[-1]  # that this code needs
PREFIX = "infi_voice_monitor_"
MADE_HERE = "made by monitor-cli"  # the comment of each table of ours: a downgrade knows what it may drop by it

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

Id = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself only in an INTEGER key
Millis = BigInteger
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
Bytes = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


class Exact(TypeDecorator[str]):
    """Text that compares byte for byte, trailing blanks included, on every store.

    utf8mb4_bin pads with blanks ('KA' = 'KA '); the collation that does not has another name on MariaDB and on MySQL 8.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name not in ("mysql", "mariadb"):
            return dialect.type_descriptor(String(self.length))
        collation = "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
        return dialect.type_descriptor(mysql.VARCHAR(self.length, charset="utf8mb4", collation=collation))


class Padded(Exact):
    """The same, filled up with blanks where it is kept: another text of ASCII takes its place in a row without moving
    what stands behind it. Not for what may end in blanks."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        exact = super().load_dialect_impl(dialect)
        if isinstance(exact, mysql.VARCHAR):
            return dialect.type_descriptor(mysql.CHAR(self.length, charset=exact.charset, collation=exact.collation))
        return exact


def _options(parts: Iterable[Any] = ()) -> dict[str, Any]:
    engine: dict[str, Any] = {
        f"{name}_{key}": value
        for name in ("mysql", "mariadb")
        for key, value in {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}.items()
    }
    # Ids are never used again: webhook-ids and hears_from rest on it.
    return {**engine, "sqlite_autoincrement": any(getattr(part, "autoincrement", None) is True for part in parts)}


def _table(name: str, *parts: Any) -> Table:
    return Table(PREFIX + name, metadata, *parts, comment=MADE_HERE, **_options(parts))


monitor = Table(
    "infi_voice_monitor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("server_id", SmallInteger, nullable=False),
    Column("name", Exact(100), nullable=False),
    Column("server_tag", Exact(30), nullable=False),
    Column("channel_id", Integer, nullable=False),
    Column("capacity", Integer, nullable=False, server_default="0"),
    Column("used", Integer, nullable=False, server_default="0"),
    Column("primary_server", Exact(100)),
    Column("region", Exact(100)),
    Column("region_code", Exact(100)),
    Column("incident_status", Exact(50), server_default="operational"),
    Column("final_status", Exact(50), server_default="operational"),
    Column(
        "status_report",
        SmallInteger().with_variant(mysql.TINYINT(), "mysql", "mariadb"),
        nullable=False,
        server_default="0",
    ),
    Column("meta", Text),
    Column("created", Integer, nullable=False, server_default="0"),
    Column("modified", Integer, nullable=False, server_default="0"),
    Index("ix_infi_voice_monitor_status_report_id", "status_report", "id"),
    Index("ix_infi_voice_monitor_channel_id", "channel_id"),
    **{**_options(), "sqlite_autoincrement": True},
)

# Accounts: tables here, or views of the same shape over a platform's own tables. No foreign keys lead to them.
account = _table(
    "account",
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Exact(190), nullable=False),
    Column("api_key_sha256", Exact(64), nullable=False),
    UniqueConstraint("name"),
    UniqueConstraint("api_key_sha256"),
)
subscription = _table(
    "subscription",
    Column("account_id", Id, primary_key=True, autoincrement=False),
    Column("active", SmallInteger, nullable=False),
)
number = _table(
    "number",
    Column("account_id", Id, primary_key=True, autoincrement=False),
    Column("number", Exact(32), primary_key=True),
    Column("channel_id", BigInteger, nullable=False),
    Index("ix_infi_voice_monitor_number_account_channel", "account_id", "channel_id", "number"),
    Index("ix_infi_voice_monitor_number_channel_account", "channel_id", "account_id"),
)

callback = _table(
    "callback",
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("account_id", Id, nullable=False, index=True),
    Column("title", Exact(190), nullable=False),
    Column("name", Exact(190), nullable=False),
    Column("url", Text, nullable=False),
    Column("destination", Exact(300), nullable=False),  # host:port of the URL: who shares a server
    Column("payload", LongText),
    Column("headers", Text, nullable=False),  # JSON: [[name, value], …]
    Column("raw_json", SmallInteger, nullable=False),
    Column("active", SmallInteger, nullable=False),
    Column("reason", Text),  # why it was switched off by us; NULL where a person did
    Column("failing_since", Millis),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("not_before", Millis, nullable=False, server_default="0"),  # a Retry-After that outlives its delivery
    Column("hears_from", Id, nullable=False),  # the highest change id at its creation
    Column("secret", Text, nullable=False),
    Column("old_secret", Text),
    Column("old_secret_until", Millis),
    Column("created_at", Millis, nullable=False),
    Column("modified_at", Millis, nullable=False),
)

change = _table(
    "change",
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("monitor_id", BigInteger, nullable=False),
    Column("server_id", BigInteger, nullable=False),
    Column("name", Exact(255), nullable=False),
    Column("channel_id", BigInteger, nullable=False),
    Column("region", Exact(255), nullable=False),
    Column("region_code", Exact(255), nullable=False),
    Column("from_type", Exact(20)),  # NULL: unknown
    Column("to_type", Exact(20), nullable=False),
    Column("source", Exact(100)),
    Column("incident_status", Exact(50)),
    Column("incident_title", Text),
    Column("incident_link", Text),
    Column("flag_stood", SmallInteger, nullable=False),  # status_report was 1 already
    Column("planned", SmallInteger, nullable=False, server_default="0"),
    Column("created_at", Millis, nullable=False),
    Index("ix_infi_voice_monitor_change_planned_monitor", "planned", "monitor_id"),
    Index("ix_infi_voice_monitor_change_monitor_created", "monitor_id", "created_at"),
    Index("ix_infi_voice_monitor_change_created", "created_at"),
)

# The delivery protocol's tables.
plan = _table(
    "plan",
    Column("token", Exact(32), primary_key=True),
    Column("channel_id", BigInteger, primary_key=True, autoincrement=False),
    Column("region", Exact(255), primary_key=True),
    Column("region_code", Exact(255), primary_key=True),
    Column("before_type", Exact(20)),
    Column("last_change", Id, nullable=False),
    Column("changed_at", Millis),  # of the oldest change that it is about; NULL: not known
)
owed = _table(
    "owed",
    Column("callback_id", Id, primary_key=True, autoincrement=False),
    Column("channel_id", BigInteger, primary_key=True, autoincrement=False),
    Column("region", Exact(255), primary_key=True),
    Column("region_code", Exact(255), primary_key=True),
    Column("wanted", Id, nullable=False),
    Column("told", Id, nullable=False),
    Column("told_type", Exact(20)),  # NULL: unknown
    Column("unsure", SmallInteger, nullable=False, server_default="0"),  # 1: may believe another type; or REPLAYED
    Column("owed_since_at", Millis, nullable=False),
)
OWNER_LENGTH = 40
REPLAYED = 2  # owed.unsure: a person wants it sent again, and no claim has taken that up yet
delivery = _table(
    "delivery",
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("callback_id", Id, nullable=False, index=True),
    Column("open_callback_id", Id, unique=True),  # = callback_id while open: at most one, the callback's lock
    Column("state", Exact(10), nullable=False),  # open, done, failed
    Column("due_at", Millis),  # NULL: parked
    # Never NULL, and padded: a claim writes them in place, which takes MariaDB a third of what making room takes.
    Column("lease_token", Padded(32), nullable=False, server_default=text("''")),  # "": nobody's
    Column("lease_owner", Padded(OWNER_LENGTH), nullable=False, server_default=text("''")),  # who had it last
    Column("lease_until", Millis, nullable=False, server_default="0"),
    Column("rearmed", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Millis, nullable=False, server_default="0"),
    Column("content_hash", Exact(64)),
    Column("content_at", Millis),  # when that content was first built: {timestamp}
    Column("parts_done", Text),  # JSON: the webhook-ids of a split request's parts that were answered 2xx
    Column("changed_at", Millis),  # the first change that it is about, for reports; NULL: no known one began it
    Column("created_at", Millis, nullable=False),
    Column("settled_at", Millis),
    Index("ix_infi_voice_monitor_delivery_due_at", "due_at"),
    Index("ix_infi_voice_monitor_delivery_created", "created_at"),
)
attempt = _table(
    "attempt",
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("delivery_id", Id, nullable=False, index=True),
    Column("started_at", Millis, nullable=False, index=True),
    Column("duration_ms", Integer, nullable=False),
    Column("http_status", SmallInteger),
    Column("error", Text),
    Column("response", Text),  # the first 1 KiB of the answer
    Column("webhook_id", Exact(64), nullable=False),
    Column("part", Integer, nullable=False, server_default="0"),  # 1…n of a split request, 0 of a whole one
    Column("late", SmallInteger, nullable=False, server_default="0"),  # settled after its lease was lost
)

# What incident-sync remembers from run to run.
lease = _table(
    "lease",
    Column("name", Exact(50), primary_key=True),
    Column("token", Exact(32), nullable=False),
    Column("owner", Exact(100), nullable=False),
    Column("lease_until", Millis, nullable=False),
)
source = _table(
    "source",
    Column("name", Exact(100), primary_key=True),
    Column("last_good_at", Millis),
    Column("failing_since", Millis),
    Column("error", Text),
)
document = _table(
    "document",  # of a source, as it was read last, in parts; asked for again only if it has changed
    Column("source", Exact(100), primary_key=True),
    Column("address", Exact(64), primary_key=True),  # SHA-256 of it: keys may stand in it
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("found_at", Exact(64), nullable=False),  # the address after redirects, as SHA-256
    Column("etag", Text),
    Column("last_modified", Text),
    Column("read_at", Millis, nullable=False),
    Column("body", Bytes, nullable=False),
)
standing = _table(
    "standing",  # what is remembered of a row of infi_voice_monitor, where its columns do not tell it
    Column("monitor_id", BigInteger, primary_key=True, autoincrement=False),
    Column("component_type", Exact(20)),  # NULL: unknown
    Column("load_type", Exact(20), nullable=False),
    Column("final_type", Exact(20)),  # final_status as we left it
    Column("new_type", Exact(20)),  # not yet confirmed; NULL: none waits
    Column("seen", Integer, nullable=False),  # syncs in a row that saw it
)
condition = _table(
    "condition",  # what was reported once and lasts: an unknown word, a missing component; how far a table is archived
    Column("source", Exact(100), primary_key=True),
    Column("kind", Exact(20), primary_key=True),
    Column("subject", Exact(200), primary_key=True),
    Column("since_at", Millis, nullable=False),
)

VERSION_TABLE = PREFIX + "version"  # alembic's own
ACCOUNT_TABLES = (account, subscription, number)  # these may be views
