"""Where an attempt runs that goes on without its server."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; what runs while the tables are brought up to date runs on this machine, or is begun anew."""
    op.add_column("jobs", sa.Column("place", sa.Text))
