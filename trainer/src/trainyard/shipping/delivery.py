"""One spool to one backend: read, deliver, move the cursor, try again."""

import random
import threading
import time
import traceback
from collections.abc import Callable

from trainyard.shipping.backend import Backend, Retry
from trainyard.shipping.continuation import Fence, take_over
from trainyard.shipping.cursor import Cursor
from trainyard.spool.folder import SpoolFolder
from trainyard.spool.reader import SpoolReader
from trainyard.spool.records import Artifact, End, Metrics, Model, Record, Start

_BATCH_POINTS = 1000
"""What MLflow takes in one request."""
_POLL_S = 1.0
"""So long a point may wait that is not one of many."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_SAY_EVERY_S = 60.0


class Deadline:
    """Until when delivery goes on; open until `expire_in` is called."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._changed = threading.Event()

    def expire_in(self, seconds: float) -> None:
        """Stop that many seconds from now, or earlier if that was said before."""
        at = time.monotonic() + seconds
        self._at = at if self._at is None else min(self._at, at)
        self._changed.set()

    def is_set(self) -> bool:
        """Whether there is one."""
        return self._at is not None

    def passed(self) -> bool:
        """Whether to stop."""
        return self._at is not None and time.monotonic() >= self._at

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the deadline, and not through the news that there is one."""
        if self._at is None:
            self._changed.wait(seconds)
        else:
            time.sleep(max(0.0, min(seconds, self._at - time.monotonic())))


class Delivery:
    """Runs until the backend has everything, or the deadline passes."""

    def __init__(
        self,
        folder: SpoolFolder,
        start: Start,
        backend: Backend,
        cursor: Cursor,
        deadline: Deadline,
        *,
        say: Callable[[str], None],
    ) -> None:
        self.cursor = cursor
        self.trouble: str | None = None
        """Why nothing gets through at the moment."""
        self.copies: set[str] = set()
        """Of artifacts and models that are delivered."""
        self._folder = folder
        self._start = start
        self._backend = backend
        self._deadline = deadline
        self._say = say
        self._reader = SpoolReader(folder, cursor.position, cursor.damage)
        self._fence: Fence | None = None
        """None until the backend is open."""

    def run(self) -> None:
        """Deliver. Never raises: what goes wrong is said, and tried again until the deadline."""
        since, said, pause = time.monotonic(), 0.0, _FIRST_PAUSE_S
        try:
            while not self.cursor.ended and not self._deadline.passed():
                try:
                    more = self._once()
                except Exception as error:
                    self.trouble = (
                        str(error) if isinstance(error, Retry) else "".join(traceback.format_exception(error)).strip()
                    )
                    now = time.monotonic()
                    if now - said >= _SAY_EVERY_S:
                        said = now
                        self._say(
                            f"{self.cursor.backend}: {self.trouble}; the record waits in {self._folder.path}, trying again"
                        )
                    self._start_over()
                    self._deadline.pause(pause * random.uniform(0.8, 1.2))
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                    continue
                if self.trouble is not None:
                    self._say(f"{self.cursor.backend}: takes records again after {time.monotonic() - since:.0f} s")
                self.trouble, since, said, pause = None, time.monotonic(), 0.0, _FIRST_PAUSE_S
                if not more:
                    self._deadline.pause(_POLL_S)
        finally:
            self._backend.close()

    def _once(self) -> bool:
        """Deliver one batch; whether there is more by now. Raises Retry."""
        if self._fence is None:
            take_over(self._folder, self.cursor, say=self._say)
            self._backend.open(self._start, self._folder.path, self.cursor)
            self._fence = Fence(self.cursor, self._backend, self._start)
        # Asked before reading: what a writer leaves behind is complete only if it was gone by then.
        gone = not self._folder.writer_alive()
        records = self._reader.read(points=_BATCH_POINTS, writer_gone=gone)
        if not records:
            if gone:
                self._finish(End(status="FAILED", reason="lost", time_ms=max(self.cursor.last_ms, self._start.time_ms)))
            return False
        if isinstance(records[0], End):
            self._finish(records[0])
            return True
        records = self._fence.pass_on(records)
        copy = _copy_of(records[0]) if records else None
        if copy is None or (self._folder.path / copy).exists():
            if records:
                self._backend.deliver(records)
        else:
            self.cursor.warn(f"{copy} is gone from {self._folder.path}: somebody deleted it before it was delivered")
        measured = [record for record in records if isinstance(record, Metrics)]
        self.cursor.last_ms = max([self.cursor.last_ms, *(record.time_ms for record in measured)])
        points = sum(len(record.values) for record in measured)
        self._fence.settle()
        self.cursor.advance(self._reader.position, self._reader.damage, points)
        if copy is not None:
            self.copies.add(copy)
        # Half a batch can wait to become a whole one: a request for every step would keep server and training busy.
        return gone or copy is not None or points >= _BATCH_POINTS

    def _finish(self, end: End) -> None:
        if damage := self._reader.damage.places:
            self.cursor.warn(
                f"{self._folder.path} is damaged in {damage} places: {self._reader.damage.bytes} bytes could not be read"
            )
        self._backend.finish(end)
        self.cursor.end()

    def _start_over(self) -> None:
        """Go back to the cursor: what was read and not delivered is read again."""
        self._reader = SpoolReader(self._folder, self.cursor.position, self.cursor.damage)
        self._fence = None
        self._backend.close()


def _copy_of(record: Record) -> str | None:
    match record:
        case Artifact():
            return record.file
        case Model():
            return record.folder
        case _:
            return None
