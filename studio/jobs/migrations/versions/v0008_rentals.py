"""Machines that were rented, and what each job has cost."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_SECONDS: sa.Double[float] = sa.Double().with_variant(sa.REAL, "sqlite")


def upgrade() -> None:
    """Add the table; jobs of an earlier version ran on machines of one's own."""
    op.add_column("jobs", sa.Column("cost_usd", _SECONDS))
    op.create_table(
        "rentals",
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("machine", sa.Text),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("price_per_hour", _SECONDS, nullable=False),
        sa.Column("extra", _SECONDS, nullable=False),
        sa.Column("reserved", _SECONDS, nullable=False),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("begun_s", _SECONDS, nullable=False),
        sa.Column("gone_s", _SECONDS),
        sa.Column("cost", _SECONDS, nullable=False, server_default=sa.text("0")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("rentals_by_job", "rentals", ["job"])
