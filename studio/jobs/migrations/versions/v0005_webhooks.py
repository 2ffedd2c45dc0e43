"""What happens to jobs is told to webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SECONDS: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL, "sqlite")


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events", sa.Text, nullable=False, server_default="[]"),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("progress_every_s", _SECONDS, nullable=False),
        sa.Column("is_active", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("cause", sa.Text),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("old_secret", sa.Text),
        sa.Column("old_until_s", _SECONDS),
        sa.Column("created_s", _SECONDS, nullable=False),
        sa.Column("job", sa.Text),
        sa.Column("form", sa.Text),
        sa.Column("context", sa.Text, nullable=False, server_default="{}"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("webhooks_by_owner", "webhooks", ["owner"])
    op.create_table(
        "deliveries",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("webhook", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("job", sa.Text),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="waiting"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("created_s", _SECONDS, nullable=False),
        sa.Column("due_s", _SECONDS, nullable=False, server_default=sa.text("0")),
        sa.Column("ended_s", _SECONDS),
        sa.UniqueConstraint("id"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    for name, columns in (("state", ["state", "due_s"]), ("webhook", ["webhook", "number"]), ("job", ["job"])):
        op.create_index(f"deliveries_by_{name}", "deliveries", columns)
