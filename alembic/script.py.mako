"""${message}

Each step looks first whether it is needed: a kill half-way, and a whole run again from the first revision (so does
`db upgrade` repair), must be harmless. Set REVISION in monitor_cli/schema.py to this one.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
from monitor_cli.migrate.steps import Steps

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    steps = Steps(op)
    ${upgrades if upgrades else "..."}


def downgrade() -> None:
    steps = Steps(op)
    ${downgrades if downgrades else "..."}
