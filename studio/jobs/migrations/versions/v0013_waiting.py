"""Since when a job waits for its turn, so that one that waits too long can end."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0010"


def upgrade() -> None:
    """Add the column; a job that waits already has waited since it was submitted."""
    op.add_column("jobs", sa.Column("waits_since_s", sa.Double().with_variant(sa.REAL, "sqlite")))
