"""Owners give hearts to pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; no picture of an earlier version has a heart."""
    op.add_column("jobs", sa.Column("hearts", sa.Text, nullable=False, server_default="[]"))
