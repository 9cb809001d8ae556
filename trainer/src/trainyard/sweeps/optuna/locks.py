"""One worker at a time: an advisory lock in Postgres, a locked file beside SQLite's."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import Engine

_PAUSE_S: Final = 0.1
_SETTINGS: Final = (
    # A holder that is gone, or hangs, is let go.
    "SET LOCAL idle_in_transaction_session_timeout = '120s'",
    "SET LOCAL tcp_keepalives_idle = 10",
    "SET LOCAL tcp_keepalives_interval = 5",
    "SET LOCAL tcp_keepalives_count = 3",
)


def lock(engine: Engine, name: str, pause: Callable[[float], None]) -> AbstractContextManager[None]:
    """Hold what `name` stands for. `pause` sleeps between two looks, and may raise.

    Raises what the driver raises if the lock was lost meanwhile: what was done under it may have been seen half done.
    """
    if engine.dialect.name == "sqlite":
        return _locked_file(Path(f"{engine.url.database}.lock"), pause)
    return _advisory(engine, name, pause)


@contextmanager
def _advisory(engine: Engine, name: str, pause: Callable[[float], None]) -> Iterator[None]:
    key = int.from_bytes(hashlib.sha256(f"trainyard/{name}".encode()).digest()[:8], signed=True)
    with engine.connect() as connection, connection.begin():
        for setting in _SETTINGS:
            connection.execute(text(setting))
        # A call that waits would not notice a signal, and would take the lock even after its worker is gone.
        while not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key}):
            pause(_PAUSE_S)
        yield
        connection.execute(text("SELECT 1"))


@contextmanager
def _locked_file(path: Path, pause: Callable[[float], None]) -> Iterator[None]:
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause(_PAUSE_S)
        yield
