"""The jobs and their events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make both tables."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    seconds: sa.Double[float] = sa.Double().with_variant(sa.REAL, "sqlite")
    op.create_table(
        "jobs",
        sa.Column("number", number, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("created_s", seconds, nullable=False),
        sa.Column("started_s", seconds),
        sa.Column("finished_s", seconds),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("losses", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("cancel_requested", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("last_seq", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("cause", sa.Text),
        sa.Column("problems", sa.Text, nullable=False, server_default="[]"),
        sa.Column("progress", sa.Text, nullable=False, server_default="{}"),
        sa.Column("result", sa.Text),
        sa.UniqueConstraint("id"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    has_key = sa.text("key IS NOT NULL")
    op.create_index(
        "jobs_by_key", "jobs", ["owner", "key"], unique=True, sqlite_where=has_key, postgresql_where=has_key
    )
    op.create_index("jobs_by_state", "jobs", ["state"])
    op.create_table(
        "events",
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
