"""The backend `mlflow`: a server, or a database file."""

import contextlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from trainyard.doctor.examination import Check, Trouble
from trainyard.doctor.mlflow_http import WatchedHttp
from trainyard.doctor.mlflow_refusal import explain
from trainyard.doctor.mlflow_run import run_checks
from trainyard.doctor.mlflow_server import ANSWERS_AS_MLFLOW, server_checks
from trainyard.doctor.mlflow_stores import DatabaseStore, RestStore
from trainyard.environment import JobEnvironment

_FILE: Final = "mlflow file"
_QUICK_S: Final = 10.0
_LOCKED_S: Final = 5.0
_TABLES_S: Final = 60.0
"""Importing MLflow and making the tables of a new file is seconds of work, on a slow machine many, and waits for nobody."""


def mlflow_checks(environment: JobEnvironment, environ: Mapping[str, str]) -> Sequence[Check]:
    """In the order in which they make sense."""
    uri = environment.tracking_uri
    if uri.startswith("sqlite:"):
        file = Path(uri.removeprefix("sqlite:///"))
        trial = run_checks(
            lambda: DatabaseStore(uri), needs=_FILE, explain=lambda trouble: _unusable(file, trouble), limit_s=_TABLES_S
        )
        return (Check(name=_FILE, look=lambda: _writable(file)), *trial)
    http = WatchedHttp(uri, environ)
    trial = run_checks(
        lambda: RestStore(http),
        needs=ANSWERS_AS_MLFLOW,
        explain=lambda trouble: explain(trouble, http, environ),
        limit_s=_QUICK_S,
    )
    return (*server_checks(http, environ), *trial)


def _writable(file: Path) -> str:
    """Asked of SQLite itself: MLflow tries for minutes what cannot work, and then shows 100 lines."""
    elsewhere = "set MLFLOW_TRACKING_URI to a server, or to a file that is a database and may be written"
    if not file.parent.is_dir():
        raise Trouble(f"{file.parent} is no directory", f"make it, or correct MLFLOW_TRACKING_URI=sqlite:///{file}")
    if not os.access(file.parent, os.W_OK):
        raise Trouble(f"{file.parent} is not writable", elsewhere)
    if not file.exists():
        return f"{file} can be made"
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_LOCKED_S, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        locked = "locked" in str(error)
        raise Trouble(
            f"{file}: {error}", "wait for the program that writes to it, or use a server" if locked else elsewhere
        ) from error
    return f"{file} is writable"


def _unusable(file: Path, trouble: Exception) -> Trouble:
    upgrade = (
        f"if another version of MLflow made it, `mlflow db upgrade sqlite:///{file}`; if nobody needs it, move it away"
    )
    return Trouble(f"{file}: {str(trouble).strip().partition(chr(10))[0]}", upgrade)
