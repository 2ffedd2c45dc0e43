"""What is running holds a lease: who runs it, and until when that counts without a heartbeat."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add both columns; a job that was running has no lease and is recovered at once."""
    op.add_column("jobs", sa.Column("holder", sa.Text))
    op.add_column("jobs", sa.Column("leased_until_s", sa.Double().with_variant(sa.REAL, "sqlite")))
