"""`trainyard-migrate`: wait for Postgres, then bring MLflow's schema to the revision that this MLflow needs.

Several pods may run it at once: an advisory lock lets one work while the others wait and find the work done.
"""

import os
from functools import partial

import sqlalchemy
from sqlalchemy.pool import NullPool

from .command import UnavailableError, run, say, wait_for
from .database import Settings, connect_once

NAME = "trainyard-migrate"


def migrate() -> str:
    """Do the whole command and return the line that reports it."""
    settings = Settings.from_environment(os.environ)
    engine = sqlalchemy.create_engine(settings.url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    wait_for(NAME, settings.target, lambda: connect_once(engine, settings), settings.wait_s)
    # Only now, because MLflow takes seconds to import and bad input should be reported at once.
    from .schema import advisory_lock, bring_to_head

    try:
        with advisory_lock(engine, partial(say, NAME)):
            return bring_to_head(engine, settings)
    except sqlalchemy.exc.OperationalError as error:
        raise UnavailableError(
            f"{settings.target} failed during the migration: {' '.join(str(error.orig).split())}"
        ) from error


def main() -> None:
    """Entry point."""
    run(NAME, "Brings MLflow's schema in the database MLFLOW_BACKEND_STORE_URI to this MLflow's revision.", migrate)
