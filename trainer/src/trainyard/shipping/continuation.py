"""A run that several processes recorded, one after the other: what the one before left, and what is not sent again."""

from collections.abc import Callable

from trainyard.shipping.backend import Backend, Retry
from trainyard.shipping.cursor import Cursor
from trainyard.spool.folder import SpoolFolder
from trainyard.spool.records import Metrics, Record, Start


def take_over(folder: SpoolFolder, cursor: Cursor, *, say: Callable[[str], None]) -> None:
    """Let `cursor`, before its first delivery, begin with what the attempt before it ended with. Raises Retry until it has ended."""
    before = folder.before()
    if before is None or cursor.fence is not None:
        return
    if cursor.backend not in before.start().backends:
        return
    last = Cursor(before, cursor.backend, say=say)
    if not last.ended:
        raise Retry(f"what the process before this one recorded, in {before.path}, has to be delivered first")
    cursor.state = last.state


class Fence:
    """Leaves out the steps that a continued training does again, from its checkpoint to where it was stopped."""

    def __init__(self, cursor: Cursor, backend: Backend, start: Start) -> None:
        """Raises Retry."""
        if cursor.fence is None:
            cursor.fence = dict(backend.recorded()) if start.continues else {}
            cursor.save()
        self._cursor = cursor
        self._last = dict(cursor.fence)
        self._seen: dict[str, int] = {}

    def pass_on(self, records: list[Record]) -> list[Record]:
        """Those that are new."""
        if not self._last:
            return records
        passed: list[Record] = []
        for record in records:
            if isinstance(record, Metrics):
                new = tuple(value for value in record.values if self._is_new(value[0], record.step))
                if not new:
                    continue
                record = Metrics(record.step, record.time_ms, new)
            passed.append(record)
        return passed

    def settle(self) -> None:
        """What was passed on is delivered: the cursor may know what the fence has learnt from it."""
        self._cursor.fence = dict(self._last)

    def _is_new(self, key: str, step: int) -> bool:
        last = self._last.get(key)
        if last is None:
            return True
        # A metric whose steps go back counts something else than progress: better twice than never.
        if step > last or step < self._seen.get(key, step):
            del self._last[key]
            return True
        self._seen[key] = step
        return False
