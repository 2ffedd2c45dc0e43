"""The way from the tables of earlier versions to those of ``schema``, one file for each step, run by alembic."""

import threading

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_ONE_AT_A_TIME = threading.Lock()  # alembic's ``op`` is one for the whole process


def upgrade(db: Connection, to: str = "head") -> None:
    """Bring the tables up to date, within the transaction that ``db`` is in.

    Args:
        db: a connection that has begun a transaction and keeps everybody else from doing the same.
        to: name of the version.
    """
    config = Config()
    config.set_main_option("script_location", "studio.jobs:migrations")
    script = ScriptDirectory.from_config(config)

    def steps(revision: object, context: MigrationContext) -> object:
        return script._upgrade_revs(to, revision)  # type: ignore[arg-type]  # what alembic's own command calls

    with _ONE_AT_A_TIME, EnvironmentContext(config, script, fn=steps, destination_rev=to) as environment:
        environment.configure(connection=db)
        environment.run_migrations()
