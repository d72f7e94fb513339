"""Everything of monitor-cli's first schema. Frozen once released: what changes later is a revision of its own.

Each step looks first whether it is needed, so the whole can be repeated after a kill half-way (MySQL's DDL cannot roll
back), and what a platform already has is left as it is: see monitor_cli/migrate/steps.py.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from alembic import op
from monitor_cli.migrate.steps import Steps

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows only in an INTEGER key
TINY = sa.SmallInteger().with_variant(mysql.TINYINT(), "mysql", "mariadb")
BYTES = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

TABLES = (  # of ours; infi_voice_monitor stays for good
    "infi_voice_monitor_account",
    "infi_voice_monitor_subscription",
    "infi_voice_monitor_number",
    "infi_voice_monitor_callback",
    "infi_voice_monitor_change",
    "infi_voice_monitor_plan",
    "infi_voice_monitor_owed",
    "infi_voice_monitor_delivery",
    "infi_voice_monitor_attempt",
    "infi_voice_monitor_lease",
    "infi_voice_monitor_source",
    "infi_voice_monitor_document",
    "infi_voice_monitor_standing",
    "infi_voice_monitor_condition",
)
MONITOR_INDEXES = ("ix_infi_voice_monitor_channel_id", "ix_infi_voice_monitor_status_report_id")


def exact(length: int) -> Any:
    """Text that compares byte for byte, trailing blanks included; the collation has another name on MySQL 8."""
    dialect: Any = op.get_bind().dialect
    if dialect.name not in ("mysql", "mariadb"):
        return sa.String(length)
    collation = "utf8mb4_nopad_bin" if dialect.is_mariadb else "utf8mb4_0900_bin"
    return mysql.VARCHAR(length, charset="utf8mb4", collation=collation)


def padded(length: int) -> Any:
    """The same, filled up with blanks where it is kept."""
    kind = exact(length)
    if isinstance(kind, mysql.VARCHAR):
        return mysql.CHAR(length, charset=kind.charset, collation=kind.collation)
    return kind


def upgrade() -> None:
    steps = Steps(op)
    _platform(steps)
    _accounts(steps)
    _callbacks(steps)
    _protocol(steps)
    _remembered(steps)


def downgrade() -> None:
    steps = Steps(op)
    for name in MONITOR_INDEXES:
        steps.drop_index(name, "infi_voice_monitor")
    for name in TABLES:
        steps.drop_table(name)


def _platform(steps: Steps) -> None:
    steps.table(
        "infi_voice_monitor",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("server_id", sa.SmallInteger(), nullable=False),
        sa.Column("name", exact(100), nullable=False),
        sa.Column("server_tag", exact(30), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("used", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("primary_server", exact(100)),
        sa.Column("region", exact(100)),
        sa.Column("region_code", exact(100)),
        sa.Column("incident_status", exact(50), server_default="operational"),
        sa.Column("final_status", exact(50), server_default="operational"),
        sa.Column("status_report", TINY, nullable=False, server_default="0"),
        sa.Column("meta", sa.Text()),
        sa.Column("created", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("modified", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_infi_voice_monitor")),
    )
    steps.index("ix_infi_voice_monitor_channel_id", "infi_voice_monitor", "channel_id")
    steps.index("ix_infi_voice_monitor_status_report_id", "infi_voice_monitor", "status_report", "id")


def _accounts(steps: Steps) -> None:
    steps.table(
        "infi_voice_monitor_account",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("name", exact(190), nullable=False),
        sa.Column("api_key_sha256", exact(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_infi_voice_monitor_account")),
        sa.UniqueConstraint("name", name=op.f("uq_infi_voice_monitor_account_name")),
        sa.UniqueConstraint("api_key_sha256", name=op.f("uq_infi_voice_monitor_account_api_key_sha256")),
    )
    steps.table(
        "infi_voice_monitor_subscription",
        sa.Column("account_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("active", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_infi_voice_monitor_subscription")),
    )
    steps.table(
        "infi_voice_monitor_number",
        sa.Column("account_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("number", exact(32), nullable=False),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "number", name=op.f("pk_infi_voice_monitor_number")),
    )
    steps.index(
        "ix_infi_voice_monitor_number_account_channel",
        "infi_voice_monitor_number",
        "account_id",
        "channel_id",
        "number",
    )
    steps.index("ix_infi_voice_monitor_number_channel_account", "infi_voice_monitor_number", "channel_id", "account_id")


def _callbacks(steps: Steps) -> None:
    steps.table(
        "infi_voice_monitor_callback",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("account_id", BIG_ID, nullable=False),
        sa.Column("title", exact(190), nullable=False),
        sa.Column("name", exact(190), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("destination", exact(300), nullable=False),
        sa.Column("payload", LONG_TEXT),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("raw_json", sa.SmallInteger(), nullable=False),
        sa.Column("active", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("failing_since", sa.BigInteger()),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("hears_from", BIG_ID, nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text()),
        sa.Column("old_secret_until", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("modified_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_infi_voice_monitor_callback")),
    )
    steps.index("ix_infi_voice_monitor_callback_account_id", "infi_voice_monitor_callback", "account_id")
    steps.table(
        "infi_voice_monitor_change",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("monitor_id", sa.BigInteger(), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("name", exact(255), nullable=False),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.Column("region", exact(255), nullable=False),
        sa.Column("region_code", exact(255), nullable=False),
        sa.Column("from_type", exact(20)),
        sa.Column("to_type", exact(20), nullable=False),
        sa.Column("source", exact(100)),
        sa.Column("incident_status", exact(50)),
        sa.Column("incident_title", sa.Text()),
        sa.Column("incident_link", sa.Text()),
        sa.Column("flag_stood", sa.SmallInteger(), nullable=False),
        sa.Column("planned", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_infi_voice_monitor_change")),
    )
    steps.index("ix_infi_voice_monitor_change_created", "infi_voice_monitor_change", "created_at")
    steps.index("ix_infi_voice_monitor_change_monitor_created", "infi_voice_monitor_change", "monitor_id", "created_at")
    steps.index("ix_infi_voice_monitor_change_planned_monitor", "infi_voice_monitor_change", "planned", "monitor_id")


def _protocol(steps: Steps) -> None:
    steps.table(
        "infi_voice_monitor_plan",
        sa.Column("token", exact(32), nullable=False),
        sa.Column("channel_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("region", exact(255), nullable=False),
        sa.Column("region_code", exact(255), nullable=False),
        sa.Column("before_type", exact(20)),
        sa.Column("last_change", BIG_ID, nullable=False),
        sa.Column("changed_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint(
            "token", "channel_id", "region", "region_code", name=op.f("pk_infi_voice_monitor_plan")
        ),
    )
    steps.table(
        "infi_voice_monitor_owed",
        sa.Column("callback_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("channel_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("region", exact(255), nullable=False),
        sa.Column("region_code", exact(255), nullable=False),
        sa.Column("wanted", BIG_ID, nullable=False),
        sa.Column("told", BIG_ID, nullable=False),
        sa.Column("told_type", exact(20)),
        sa.Column("unsure", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("owed_since_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "callback_id", "channel_id", "region", "region_code", name=op.f("pk_infi_voice_monitor_owed")
        ),
    )
    steps.table(
        "infi_voice_monitor_delivery",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("callback_id", BIG_ID, nullable=False),
        sa.Column("open_callback_id", BIG_ID),
        sa.Column("state", exact(10), nullable=False),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("lease_token", padded(32), nullable=False, server_default=sa.text("''")),
        sa.Column("lease_owner", padded(40), nullable=False, server_default=sa.text("''")),
        sa.Column("lease_until", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("rearmed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("content_hash", exact(64)),
        sa.Column("content_at", sa.BigInteger()),
        sa.Column("parts_done", sa.Text()),
        sa.Column("changed_at", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_infi_voice_monitor_delivery")),
        sa.UniqueConstraint("open_callback_id", name=op.f("uq_infi_voice_monitor_delivery_open_callback_id")),
    )
    steps.index("ix_infi_voice_monitor_delivery_callback_id", "infi_voice_monitor_delivery", "callback_id")
    steps.index("ix_infi_voice_monitor_delivery_created", "infi_voice_monitor_delivery", "created_at")
    steps.index("ix_infi_voice_monitor_delivery_due_at", "infi_voice_monitor_delivery", "due_at")
    steps.table(
        "infi_voice_monitor_attempt",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("delivery_id", BIG_ID, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("http_status", sa.SmallInteger()),
        sa.Column("error", sa.Text()),
        sa.Column("response", sa.Text()),
        sa.Column("webhook_id", exact(64), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("late", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_infi_voice_monitor_attempt")),
    )
    steps.index("ix_infi_voice_monitor_attempt_delivery_id", "infi_voice_monitor_attempt", "delivery_id")
    steps.index("ix_infi_voice_monitor_attempt_started_at", "infi_voice_monitor_attempt", "started_at")


def _remembered(steps: Steps) -> None:
    steps.table(
        "infi_voice_monitor_lease",
        sa.Column("name", exact(50), nullable=False),
        sa.Column("token", exact(32), nullable=False),
        sa.Column("owner", exact(100), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_infi_voice_monitor_lease")),
    )
    steps.table(
        "infi_voice_monitor_source",
        sa.Column("name", exact(100), nullable=False),
        sa.Column("last_good_at", sa.BigInteger()),
        sa.Column("failing_since", sa.BigInteger()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_infi_voice_monitor_source")),
    )
    steps.table(
        "infi_voice_monitor_document",
        sa.Column("source", exact(100), nullable=False),
        sa.Column("address", exact(64), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("found_at", exact(64), nullable=False),
        sa.Column("etag", sa.Text()),
        sa.Column("last_modified", sa.Text()),
        sa.Column("read_at", sa.BigInteger(), nullable=False),
        sa.Column("body", BYTES, nullable=False),
        sa.PrimaryKeyConstraint("source", "address", "part", name=op.f("pk_infi_voice_monitor_document")),
    )
    steps.table(
        "infi_voice_monitor_standing",
        sa.Column("monitor_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("component_type", exact(20)),
        sa.Column("load_type", exact(20), nullable=False),
        sa.Column("final_type", exact(20)),
        sa.Column("new_type", exact(20)),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("monitor_id", name=op.f("pk_infi_voice_monitor_standing")),
    )
    steps.table(
        "infi_voice_monitor_condition",
        sa.Column("source", exact(100), nullable=False),
        sa.Column("kind", exact(20), nullable=False),
        sa.Column("subject", exact(200), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "kind", "subject", name=op.f("pk_infi_voice_monitor_condition")),
    )
