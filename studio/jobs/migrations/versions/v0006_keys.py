"""API keys, what administrators did in the name of others, and how long the jobs of each owner have run in a month."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_SECONDS: sa.Double[float] = sa.Double().with_variant(sa.REAL, "sqlite")


def upgrade() -> None:
    """Add the tables; of an attempt that runs already nobody knows when it began."""
    op.add_column("jobs", sa.Column("claimed_s", _SECONDS))
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_s", _SECONDS, nullable=False),
        sa.Column("expires_s", _SECONDS),
        sa.Column("revoked_s", _SECONDS),
        sa.Column("last_used_day", sa.Text),
        sa.Column("quota", sa.Text, nullable=False, server_default="{}"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "accesses",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("at_s", _SECONDS, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "used",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("gpu_s", _SECONDS, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
