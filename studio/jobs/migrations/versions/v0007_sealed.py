"""The sealed token of a job that has not ended."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; jobs of an earlier version have their tokens in memory, if anywhere."""
    op.add_column("jobs", sa.Column("sealed", sa.Text))
