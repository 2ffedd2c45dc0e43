"""Owners take turns, a job that gets further has lost nothing, and jobs say what they are about."""

import sqlalchemy as sa
from alembic import op

from studio.jobs.schema import facts_from_title

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the turns, the stages and the facts; what earlier jobs were about stands in their titles."""
    op.add_column("jobs", sa.Column("stage", sa.Text, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("reached", sa.Text, nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("facts", sa.Text, nullable=False, server_default=""))
    op.create_index("jobs_by_owner", "jobs", ["owner", "kind", "number"])
    op.create_table(
        "turns",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("turn", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    jobs = sa.table("jobs", sa.column("id"), sa.column("kind"), sa.column("title"), sa.column("facts"))
    db = op.get_bind()
    for job_id, kind, title in db.execute(sa.select(jobs.c.id, jobs.c.kind, jobs.c.title)).all():
        db.execute(sa.update(jobs).where(jobs.c.id == job_id).values(facts=facts_from_title(kind, title)))
