"""MLflow's schema in a database: which revision it is at, and how it gets to the one that this MLflow needs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.store.db.utils import (
    _all_tables_exist,
    _get_alembic_config,
    _initialize_tables,
    _upgrade_db,
)
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from mlflow.version import VERSION

from .command import ConfigError
from .database import Settings

LOCK_KEY = 815001
"""Of pg_advisory_lock, in MLflow's database: anything else that changes the schema takes the same one."""


@contextmanager
def advisory_lock(engine: sqlalchemy.Engine, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock on a connection of its own and report if it has to be waited for.

    Postgres frees it when this process dies.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        key = {"key": LOCK_KEY}
        if not connection.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), key).scalar():
            report("another migration is running on this database, waiting for it to end")
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), key)
        yield


def current_revision(engine: sqlalchemy.Engine, settings: Settings) -> str | None:
    """Return the schema's revision, None where there is none; raises ConfigError where there are several."""
    with engine.connect() as connection:
        try:
            revision: str | None = MigrationContext.configure(connection).get_current_revision()
        except CommandError as error:
            raise ConfigError(
                f"{settings.target} is at several schema revisions at once, so it is not MLflow's alone: "
                "restore a backup, or give MLflow a database of its own"
            ) from error
    return revision


def known_revisions() -> tuple[str, set[str]]:
    """Return the newest schema revision of this MLflow, and all that it can migrate from."""
    script = ScriptDirectory.from_config(_get_alembic_config(db_url=""))
    head = script.get_current_head()
    assert head is not None, "MLflow carries no migrations"
    return head, {revision.revision for revision in script.walk_revisions()}


def bring_to_head(engine: sqlalchemy.Engine, settings: Settings) -> str:
    """Create or upgrade the schema, verify it and say what was done; raises ConfigError where it must not be touched."""
    head, known = known_revisions()
    before = current_revision(engine, settings)
    start = time.monotonic()
    if before is None:
        refuse_foreign_tables(engine, settings)
        _initialize_tables(engine)
        done = f"created the schema at revision {head}"
    elif before not in known:
        raise ConfigError(
            f"{settings.target} is at schema revision {before}, which MLflow {VERSION} does not know (its newest is "
            f"{head}): a newer MLflow has migrated it, or it belongs to another application. Nothing was changed. Run the "
            "newer MLflow image, or restore the backup made before the upgrade"
        )
    elif before == head:
        done = f"the schema is at revision {head} already"
    else:
        _upgrade_db(engine)
        done = f"migrated the schema from revision {before} to {head}"
    verify(engine, settings, head)
    return f"{done} in {time.monotonic() - start:.1f} s: {settings.target}, MLflow {VERSION}"


def refuse_foreign_tables(engine: sqlalchemy.Engine, settings: Settings) -> None:
    """Raise ConfigError if a database without a schema revision holds tables.

    MLflow's very first tables are allowed: they are what a migration leaves that was killed before its first revision.
    """
    tables = {name for name in sqlalchemy.inspect(engine).get_table_names() if not name.startswith("alembic_")}
    foreign = sorted(tables - set(InitialBase.metadata.tables))
    if foreign:
        raise ConfigError(
            f"{settings.target} holds {len(foreign)} tables that are not MLflow's ({', '.join(foreign[:3])}, ...). Nothing "
            "was changed. Give MLflow a database of its own"
        )


def verify(engine: sqlalchemy.Engine, settings: Settings, head: str) -> None:
    """Raise ConfigError unless the schema is at `head` with every table, because the server would repair it unasked."""
    after = current_revision(engine, settings)
    if after != head or not _all_tables_exist(engine):
        raise ConfigError(
            f"{settings.target} is at schema revision {after} but lacks tables of revision {head}: restore a backup"
        )
