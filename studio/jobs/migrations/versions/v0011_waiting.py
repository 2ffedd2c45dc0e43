"""Since when a job waits for its turn, so that one that waits too long can end; and of which kind its cause is."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns; a job that waits already has waited since it was submitted."""
    op.add_column("jobs", sa.Column("waits_since_s", sa.Double().with_variant(sa.REAL, "sqlite")))
    op.add_column("jobs", sa.Column("cause_status", sa.Integer))
