"""How long owners want their jobs kept."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_SECONDS: sa.Double[float] = sa.Double().with_variant(sa.REAL, "sqlite")


def upgrade() -> None:
    """Add the table; nobody has said anything yet."""
    op.create_table(
        "keeping",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("days", _SECONDS, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
