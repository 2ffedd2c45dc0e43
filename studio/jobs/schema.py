"""The tables of the queue, the same on SQLite and on Postgres.

What earlier versions had, and the way from there to here, is in ``migrations``; a new database gets these at once.
"""

import json

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts by itself in a column of exactly this type
SECONDS: Double[float] = Double().with_variant(REAL, "sqlite")  # what a strict table of SQLite calls it

METADATA = MetaData()
_HAS_KEY = text("key IS NOT NULL")

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("facts", Text, nullable=False, server_default=""),
    Column("source", Text),
    Column("key", Text),
    Column("fingerprint", Text, nullable=False),
    Column("created_s", SECONDS, nullable=False),
    Column("started_s", SECONDS),
    Column("finished_s", SECONDS),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("losses", Integer, nullable=False, server_default=text("0")),
    Column("stage", Text, nullable=False, server_default=""),
    Column("reached", Text, nullable=False, server_default="{}"),
    Column("cancel_requested", Integer, nullable=False, server_default=text("0")),
    Column("last_seq", Integer, nullable=False, server_default=text("0")),
    Column("cause", Text),
    Column("problems", Text, nullable=False, server_default="[]"),
    Column("progress", Text, nullable=False, server_default="{}"),
    Column("result", Text),
    Column("hearts", Text, nullable=False, server_default="[]"),
    Column("sealed", Text),
    Column("holder", Text),
    Column("leased_until_s", SECONDS),
    Column("claimed_s", SECONDS),
    Column("cost_usd", SECONDS),
    Column("place", Text),
    Column("waits_since_s", SECONDS),
    Column("cause_status", Integer),
    UniqueConstraint("id"),
    Index("jobs_by_key", "owner", "key", unique=True, sqlite_where=_HAS_KEY, postgresql_where=_HAS_KEY),
    Index("jobs_by_state", "state"),
    Index("jobs_by_owner", "owner", "kind", "number"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
EVENTS = Table(
    "events",
    METADATA,
    Column("job", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

TURNS = Table(
    "turns",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("turn", NUMBER, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

WEBHOOKS = Table(
    "webhooks",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False, server_default="[]"),
    Column("description", Text, nullable=False, server_default=""),
    Column("progress_every_s", SECONDS, nullable=False),
    Column("is_active", Integer, nullable=False, server_default=text("1")),
    Column("cause", Text),
    Column("secret", Text, nullable=False),
    Column("old_secret", Text),
    Column("old_until_s", SECONDS),
    Column("created_s", SECONDS, nullable=False),
    Column("job", Text),
    Column("form", Text),
    Column("context", Text, nullable=False, server_default="{}"),
    Index("webhooks_by_owner", "owner"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""One with a ``job`` came with that job's request and hears of it alone. ``form`` names the function that makes the
bodies of its events, ``context`` is what that function is told beside the job."""
DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("id", Text, nullable=False),
    Column("webhook", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("job", Text),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("status", Integer),
    Column("error", Text),
    Column("created_s", SECONDS, nullable=False),
    Column("due_s", SECONDS, nullable=False, server_default=text("0")),
    Column("ended_s", SECONDS),
    UniqueConstraint("id"),
    Index("deliveries_by_state", "state", "due_s"),
    Index("deliveries_by_webhook", "webhook", "number"),
    Index("deliveries_by_job", "job"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
"""What happened and where it is to be told: written in the transaction in which it happens, read by the sender."""

KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_s", SECONDS, nullable=False),
    Column("expires_s", SECONDS),
    Column("revoked_s", SECONDS),
    Column("last_used_day", Text),
    Column("quota", Text, nullable=False, server_default="{}"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

ACCESSES = Table(
    "accesses",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("at_s", SECONDS, nullable=False),
    Column("key", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
"""What keys of administrators did in the name of other owners."""

USED = Table(
    "used",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("month", Text, primary_key=True),
    Column("gpu_s", SECONDS, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""How long an owner's jobs have run in a month, also those that are forgotten since."""

KEEPING = Table(
    "keeping",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("days", SECONDS, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""For how many days after their last use owners want their jobs kept; without a row the operator's days hold."""

RENTALS = Table(
    "rentals",
    METADATA,
    Column("label", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("machine", Text),
    Column("what", Text, nullable=False),
    Column("price_per_hour", SECONDS, nullable=False),
    Column("extra", SECONDS, nullable=False),
    Column("reserved", SECONDS, nullable=False),
    Column("month", Text, nullable=False),
    Column("begun_s", SECONDS, nullable=False),
    Column("gone_s", SECONDS),
    Column("cost", SECONDS, nullable=False, server_default=text("0")),
    Index("rentals_by_job", "job"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Machines that were rented, or may have been, also for jobs that are forgotten since; money is US dollars. One without
``machine`` was asked for and not answered; one without ``gone_s`` may cost money now."""


REVISION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
"""The one row that says which version of the tables is there; alembic moves it, so it is no part of ``METADATA``."""


def facts_from_title(kind: str, title: str) -> str:
    """Return the facts of a job as JSON, read out of its title.

    Version 1 kept no facts; only its titles ("Photos of Ada", "Training of Ada on pocket") tell what a job was about.
    """
    facts: dict[str, str]
    match kind:
        case "check":
            facts = {"subject": title.removeprefix("Photos of ")}
        case "train":
            subject, _, base = title.removeprefix("Training of ").partition(" on ")
            facts = {"subject": subject, "base": base}
        case "generate":
            facts = {"pack": title.removeprefix("Pictures: ")}
        case "export":
            facts = {"format": title.removeprefix("Export: ")}
        case "finish":
            facts = {"chain": title.removeprefix("Finishing: ")}
        case _:
            facts = {"repo": title.removeprefix("Publishing: ")}
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False)
