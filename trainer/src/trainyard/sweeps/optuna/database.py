"""The database of the studies, asked until it answers."""

import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import IntegrityError, ProgrammingError

from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, TrainyardError
from trainyard.interruption import Interruption
from trainyard.sweeps.optuna.address import VARIABLE, engine_arguments, shown
from trainyard.sweeps.optuna.contact import Away, Contact
from trainyard.sweeps.optuna.locks import lock

_T = TypeVar("_T")
_PATIENCE_S: Final = 900.0
_LOGIN_PATIENCE_S: Final = 30.0
"""A database that is being set up refuses at first."""
_REFUSALS: Final = ("password authentication failed", "does not exist", "permission denied", "no pg_hba.conf entry")
_LONGEST_PAUSE_S: Final = 5.0
_GRACE: Final = 3.0
"""Heartbeats that must be missing until a trial counts as abandoned."""
_SCHEMA: Final = "schema"
_TRIES: Final = 20
_VERSION: Final = "alembic_version"


class Database:
    """One engine, one storage. Every call is repeated until the database answers."""

    def __init__(
        self,
        url: URL,
        *,
        heartbeat_s: float,
        environment: JobEnvironment,
        interruption: Interruption,
        say: Callable[[str], None],
    ) -> None:
        self.contact = Contact(shown(url), gap_s=2 * heartbeat_s + 5, say=say)
        self.heartbeat_s = heartbeat_s
        self.grace_s = _GRACE * heartbeat_s
        self.storage: BaseStorage
        """There after `open`."""
        self._url = url
        self.engine = create_engine(url, **engine_arguments(url, environment))
        self._wait_s = environment.tracking_wait_s
        self._pause = interruption.sleep

    def open(self, *, make: bool) -> bool:
        """Connect; with `make`, make the tables if they are missing, else return whether they are there.

        Raises ConfigError for an address that cannot be right, TrainyardError if nobody answers.
        """
        _quieten_optuna()
        if self._url.drivername == "sqlite":
            file = Path(self._url.database or "")
            if not make and not file.exists():
                return False
            file.parent.mkdir(parents=True, exist_ok=True)
        return self._first_contact(lambda: self._open(make))

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def call(
        self, ask: Callable[[], _T], *, limit_s: float = _PATIENCE_S, pause: Callable[[float], None] | None = None
    ) -> _T:
        """What `ask` returns, however often it must be asked. Raises TrainyardError after `limit_s`, Interrupted after a signal.

        `pause`: sleeps between two attempts; None: until a signal arrives at the latest.
        """
        began = time.monotonic()
        length = 0.5
        while True:
            try:
                return self.contact.attempt(ask)
            except Away as away:
                waited = time.monotonic() - began
                if waited >= limit_s:
                    raise TrainyardError(f"{away}; tried for {waited:.0f} s") from away
            (pause or self._pause)(length)
            length = min(2 * length, _LONGEST_PAUSE_S)

    @contextmanager
    def locked(self, name: str, pause: Callable[[float], None] | None = None) -> Iterator[None]:
        """Hold the lock `name`: within `call`, since it may be lost with the connection."""
        with lock(self.engine, name, pause or self._pause):
            yield

    def _first_contact(self, ask: Callable[[], bool]) -> bool:
        began = time.monotonic()
        while True:
            try:
                return self.contact.attempt(ask)
            except Away as away:
                waited = time.monotonic() - began
                if waited >= _LOGIN_PATIENCE_S and any(refusal in str(away) for refusal in _REFUSALS):
                    raise ConfigError(f"{VARIABLE}: {away}; tried for {waited:.0f} s") from away
                if waited >= self._wait_s:
                    raise TrainyardError(f"{away}; tried for {waited:.0f} s (TRAINYARD_TRACKING_WAIT_S)") from away
            self._pause(1.0)

    def _open(self, make: bool) -> bool:
        if not _has_tables(self.engine):
            if not make:
                return False
            self._make_tables()
        storage = self._storage(make=False)
        if storage.get_current_version() != storage.get_head_version():
            raise ConfigError(
                f"{VARIABLE}: the tables are those of another version of Optuna than {optuna.__version__}; "
                "run `optuna storage upgrade --storage ADDRESS`, or name an empty database"
            )
        self.storage = get_storage(storage)
        return True

    def _make_tables(self) -> None:
        """Optuna needs two connections for it, so there is none left for a lock: in Postgres, who comes second fails and looks again."""
        if self.engine.dialect.name == "sqlite":
            with self.locked(_SCHEMA):
                self._storage(make=True)
            return
        for _ in range(_TRIES):
            try:
                self._storage(make=True)
                return
            except (IntegrityError, ProgrammingError) as error:
                collision = error
            self._pause(random.uniform(0.2, 1.0))
            if _has_tables(self.engine):
                return
        raise collision

    def _storage(self, *, make: bool) -> RDBStorage:
        return RDBStorage(
            # It fills in what stands in braces, as in a password.
            self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
            # It makes an engine of its own, but not more connections.
            engine_kwargs={"pool": self.engine.pool},
            # In words of ours, below.
            skip_compatibility_check=True,
            heartbeat_interval=self.heartbeat_s,
            grace_period=self.grace_s,
            skip_table_creation=not make,
        )


def _has_tables(engine: Engine) -> bool:
    """All of them: Optuna notes their version last."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(_VERSION):
            return False
        return bool(connection.scalar(text(f"SELECT count(*) FROM {_VERSION}")))


def _quieten_optuna() -> None:
    """It would tell of every trial itself, and warn of what is done here on purpose."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")
