"""Where MLflow's database is, and one attempt to reach it; without MLflow, which takes seconds to import."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy

from .command import ConfigError, NotReadyError, UnavailableError, required, wait_seconds

DEFAULT_WAIT_S = 300.0
DRIVER = "postgresql+psycopg2"

REFUSALS = {
    r"password authentication failed|no password supplied": "the password is wrong: give the role's password in the URI",
    r"role \"[^\"]*\" does not exist": "there is no such user: create it, or correct the user in the URI",
    r"database \"[^\"]*\" does not exist": "there is no such database: create it, or correct the name in the URI",
    r"no pg_hba.conf entry|permission denied for database": "the user may not connect to this database: allow it there",
}
"""How Postgres' refusals read (a failed connection has no error code in psycopg2) -> what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Which database to migrate."""

    url: sqlalchemy.URL
    wait_s: float

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read all settings; raises ConfigError naming the variable that is missing or wrong."""
        return cls(
            url=database_url(environment), wait_s=wait_seconds(environment, "TRAINYARD_DATABASE_WAIT_S", DEFAULT_WAIT_S)
        )

    @property
    def target(self) -> str:
        """The database in words, without the password."""
        return (
            f"PostgreSQL at {self.url.host}:{self.url.port or 5432} "
            f"(database {self.url.database}, user {self.url.username})"
        )


def database_url(environment: Mapping[str, str]) -> sqlalchemy.URL:
    """Return the parsed URI; raises ConfigError. No message holds a part of the URI that could be of the password."""
    key = "MLFLOW_BACKEND_STORE_URI"
    form = f"{DRIVER}://USER:PASSWORD@HOST:PORT/DATABASE"
    text = required(environment, key, form)
    scheme = text.partition("://")[0]
    if scheme != DRIVER:
        # SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3, which is not installed.
        seen = f"begins with {scheme}://" if re.fullmatch(r"[a-z0-9+]{1,32}", scheme) else "has no driver"
        raise ConfigError(f"{key} {seen}: it must name the driver, {form}")
    try:
        url = sqlalchemy.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        url = None
    if url is None or not re.fullmatch(r"[A-Za-z0-9._:-]+", url.host or ""):
        raise ConfigError(f"{key} is not of the form {form}: percent-encode @ : / ? # and % in the password")
    if not url.username or not url.database:
        raise ConfigError(f"{key} names no {'database' if url.username else 'user'}: write {form}")
    return url


def connect_once(engine: sqlalchemy.Engine, settings: Settings) -> None:
    """Open and close one connection; raises UnavailableError where waiting would not help, else NotReadyError."""
    try:
        engine.connect().close()
    except sqlalchemy.exc.OperationalError as error:
        reason = " ".join(str(error.orig).split())
        for pattern, advice in REFUSALS.items():
            if re.search(pattern, reason):
                raise UnavailableError(f"{settings.target} refuses the connection: {advice} ({reason})") from error
        raise NotReadyError(reason) from error
