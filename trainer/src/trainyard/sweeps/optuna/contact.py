"""Whether the database answers, and since when: what a worker must know before it calls others dead."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from trainyard.errors import TrainyardError

_T = TypeVar("_T")


class Away(TrainyardError):  # noqa: N818 - a state of the database, which may pass
    """The database does not answer."""


class Contact:
    """Shared by the worker's threads. Says one line when the database goes away, and one when it is back."""

    def __init__(self, place: str, *, gap_s: float, say: Callable[[str], None]) -> None:
        """`gap_s`: as long may be between two answers without the contact counting as broken."""
        self._place = place
        self._gap_s = gap_s
        self._say = say
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._last: float | None = None
        self._away_since: float | None = None

    @property
    def broken(self) -> bool:
        """Whether the last attempt failed."""
        return self._away_since is not None

    @property
    def held_s(self) -> float:
        """Seconds for which the database has answered without a break."""
        now = time.monotonic()
        with self._lock:
            return 0.0 if self._last is None or now - self._last > self._gap_s else now - self._since

    def attempt(self, ask: Callable[[], _T]) -> _T:
        """What `ask` returns. Raises Away if the database does not answer, and whatever else `ask` raises."""
        try:
            answer = ask()
        except Exception as error:
            reason = _database_error(error)
            if reason is None:
                raise
            text = _first_line(reason)
            self._failed(text)
            raise Away(f"{self._place} does not answer: {text}") from error
        self._answered()
        return answer

    def _answered(self) -> None:
        now = time.monotonic()
        with self._lock:
            if self._last is None or now - self._last > self._gap_s:
                self._since = now
            self._last = now
            away_since, self._away_since = self._away_since, None
        if away_since is not None:
            self._say(f"{self._place} answers again, after {now - away_since:.0f} s")

    def _failed(self, reason: str) -> None:
        with self._lock:
            self._last = None
            first = self._away_since is None
            self._away_since = self._away_since or time.monotonic()
        if first:
            self._say(f"{self._place} does not answer ({reason}): trying again; a trial that runs goes on meanwhile")


class _NoAnswer:
    """A connection of the pool was not free in time: no error of the database's own."""

    orig = None

    def __str__(self) -> str:
        return "no free connection"


def _database_error(error: BaseException) -> "DBAPIError | _NoAnswer | None":
    """What the driver said, if that is about the connection and not about the statement."""
    found: BaseException | None = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(found, OperationalError | InterfaceError):
        return found
    if isinstance(found, PoolTimeout):
        return _NoAnswer()
    return found if isinstance(found, DBAPIError) and found.connection_invalidated else None


def _first_line(reason: "DBAPIError | _NoAnswer") -> str:
    """Without the statement, and without the password, which libpq never prints."""
    lines = str(reason.orig or reason).strip().splitlines()
    return lines[0].strip() if lines else type(reason).__name__
