"""The queue in Postgres: any number of servers ask it, and one of them at a time dispatches.

Rows are locked while they are changed, so every guarantee is that of the file: an attempt, a cancel and a recovery of
one job never see each other half-way.
"""

import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, create_engine, func, literal_column, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.types import Double

from studio.core.errors import InputError, MissingExtraError, Problem
from studio.jobs.database import Database
from studio.jobs.queue import Lead
from studio.jobs.schema import METADATA

_LOOK_S = 1.0
"""How often the server that dispatches asks whether its session still lives."""
_KEEPALIVE_S = 2
"""A machine that has not answered for three times as long counts as gone, on both ends of a connection."""

_UNREACHABLE = "cannot be reached ({error}); see that the server runs and that STUDIO_DATABASE_URL is right."
_LOGIN = "refuses the login ({error}); see the name and the password in STUDIO_DATABASE_URL."
_BUSY = "is busy ({error}); try again in a moment."
_WORDS = {
    "08": _UNREACHABLE,
    "57": _UNREACHABLE,
    "28": _LOGIN,
    "3D": "does not exist ({error}); make it with createdb, or name another one in STUDIO_DATABASE_URL.",
    "42": "may not be used like that ({error}); give the user of STUDIO_DATABASE_URL a schema of its own.",
    "25": "takes no changes ({error}); name the server that does in STUDIO_DATABASE_URL.",
    "40": _BUSY,
    "55": _BUSY,
    "53": "has no room or no free connection ({error}); free some, and try again.",
}
"""Class of the SQLSTATE -> what it means for a person. Source: postgresql.org/docs/current/errcodes-appendix.html."""
_OTHER_WORDS = "cannot be used ({error}); start the studio again, and report it if that does not help."


class PostgresDatabase(Database):
    """The database, and in it the schema, that an address names.

    Args:
        url: ``postgresql://USER:PASSWORD@HOST/DATABASE``, with what libpq knows behind a question mark.

    Raises:
        InputError: the address is none. MissingExtraError: psycopg is not installed.
    """

    READ = {"isolation_level": "AUTOCOMMIT"}  # noqa: RUF012  as the class above
    BARE = {"isolation_level": "AUTOCOMMIT"}  # noqa: RUF012

    now_s = literal_column("CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)", Double)

    def __init__(self, url: str) -> None:
        try:
            address = make_url(url).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError):
            cure = "write postgresql://USER:PASSWORD@HOST/DATABASE"
            raise InputError.of([Problem("STUDIO_DATABASE_URL", "is no address", cure, "bad_url")]) from None
        told = {
            "application_name": "likeness-studio",
            "connect_timeout": 5,
            "keepalives_idle": _KEEPALIVE_S,
            "keepalives_interval": _KEEPALIVE_S,
            "keepalives_count": 2,
            "tcp_user_timeout": 3000 * _KEEPALIVE_S,
        }
        try:
            engine = create_engine(
                address,
                connect_args={name: value for name, value in told.items() if name not in address.query},
                isolation_level="READ COMMITTED",
                pool_size=5,
                max_overflow=15,
                pool_pre_ping=True,  # the server may have been started again
            )
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"STUDIO_DATABASE_URL needs the Python package {error.name}; run: pip install 'psycopg[binary]'."
            ) from None
        super().__init__(engine)

    def serialize(self, db: Connection, name: str) -> None:
        """Keep other writers that name the same thing waiting until this transaction ends."""
        db.execute(select(func.pg_advisory_xact_lock(_key(name))))

    def scrub(self) -> None:
        """Rewrite the tables without a byte of what was deleted; the server's own log of changes is not ours."""
        with self.bare() as db:
            for table in METADATA.sorted_tables:
                db.exec_driver_sql(f"VACUUM FULL {table.name}")

    def lead(self, home: Path) -> Lead:
        """Return the lock that one session of all servers on this database has at a time."""
        return AdvisoryLead(self)

    def words_for(self, error: Exception) -> str:
        """Return what an error of the server means and its cure."""
        state = getattr(error, "sqlstate", None)
        if state is not None:
            words = _WORDS.get(state[:2], _OTHER_WORDS)
        else:  # the driver's own: there is no server that could have said anything, or it was not asked
            words = _UNREACHABLE if type(error).__name__ == "OperationalError" else _OTHER_WORDS
        said = str(error).strip().partition("\n")[0].rstrip(".")
        return f"the table of jobs (in Postgres) {words.format(error=said)}"

    def try_to_lead(self) -> Connection | None:
        """Return a session that has the right to dispatch for as long as it lives; None if another one has it."""
        with self.errors_in_words():
            self._open()
            db = self._engine.connect().execution_options(**self.BARE)
            try:
                if db.scalar(select(func.pg_try_advisory_lock(_key(_DISPATCH)))):
                    # So that the server gives the lock back soon when our machine is gone.
                    for name in ("idle", "interval"):
                        db.exec_driver_sql(f"SET tcp_keepalives_{name} = {_KEEPALIVE_S}")
                    db.exec_driver_sql("SET tcp_keepalives_count = 2")
                    db.detach()  # out of the pool: closed when it is closed
                    return db
            except BaseException:
                db.invalidate()
                db.close()
                raise
            db.close()
            return None

    def is_led(self) -> bool:
        """Tell whether any session has the right to dispatch."""
        with self.write() as db:  # shared, and for this transaction only
            return not db.scalar(select(func.pg_try_advisory_xact_lock_shared(_key(_DISPATCH))))

    def _begin_upgrade(self, db: Connection) -> None:
        self.serialize(db, "tables")


_DISPATCH = "dispatch"


def _key(name: str) -> ColumnElement[int]:
    """Return the number of a lock: of this studio's, in this schema of the database."""
    return func.hashtextextended(func.concat("likeness-studio ", func.current_schema(), " ", name), 0)


class AdvisoryLead:
    """The right to dispatch, kept by a session of its own.

    To have it proves nothing about another server's jobs: the session may have been lost while its processes live.
    """

    is_proof = False

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._session: Connection | None = None
        self._looked_s = 0.0

    def take(self) -> bool:
        """Take it if nobody has it, or see that it is still ours; raises ResourceError."""
        if self._session is not None:
            if time.monotonic() - self._looked_s < _LOOK_S:
                return True
            try:
                self._session.exec_driver_sql("SELECT 1")
            except DBAPIError:
                self.leave()
        if self._session is None:
            self._session = self._database.try_to_lead()
        self._looked_s = time.monotonic()
        return self._session is not None

    def leave(self) -> None:
        """Give it back."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(DBAPIError):
                session.close()

    def is_taken(self) -> bool:
        """Tell whether anybody has it."""
        return self._database.is_led()
