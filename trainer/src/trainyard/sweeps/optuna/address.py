"""Where the study is: TRAINYARD_OPTUNA_URL, or a file of this machine."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError

VARIABLE: Final = "TRAINYARD_OPTUNA_URL"
_POSTGRES: Final = "postgresql+psycopg2"
_LONGEST_NAME: Final = 63
"""Postgres cuts off the rest."""


def address(environ: Mapping[str, str], environment: JobEnvironment) -> URL:
    """The database's. Raises ConfigError, never with the password."""
    text = environ.get(VARIABLE, "").strip()
    if not text:
        if environment.job_index > 0:
            raise ConfigError(
                f"{VARIABLE} is not set: the pods of a Job share a study only in a database; set it to "
                f"{_POSTGRES}://USER:PASSWORD@HOST:5432/DATABASE"
            )
        return make_url(f"sqlite:///{environment.state_dir / 'sweeps.db'}")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is not None and url.database:
        if url.drivername == _POSTGRES and url.host:
            return url
        if url.drivername == "sqlite" and url.database != ":memory:":
            return url.set(database=str(Path(url.database).absolute()))
    shown = text.partition("://")[0] if "://" in text else "what it is set to"
    raise ConfigError(
        f"{VARIABLE}: {shown} is not the address of a database; it must be "
        f"{_POSTGRES}://USER:PASSWORD@HOST:5432/DATABASE or sqlite:////FOLDER/FILE"
    )


def shown(url: URL) -> str:
    """As it may be printed."""
    plain = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
    return f"the study's database {plain}"


def engine_arguments(url: URL, environment: JobEnvironment) -> dict[str, Any]:
    """For SQLAlchemy: two connections at the most, and none that waits for ever for a server that is gone."""
    pool = {"pool_size": 2, "max_overflow": 0, "pool_pre_ping": True, "pool_timeout": 30}
    if url.drivername == "sqlite":
        return {**pool, "connect_args": {"timeout": 60}}
    keepalives = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    who = f"trainyard sweep {environment.pod_name or socket.gethostname()} {os.getpid()}"[:_LONGEST_NAME]
    arguments = {"connect_timeout": 5, "tcp_user_timeout": 15_000, "application_name": who, **keepalives}
    return {**pool, "connect_args": arguments}
