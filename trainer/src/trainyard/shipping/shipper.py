"""Everything about delivering one spool: its backends side by side, and what is freed as they go."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trainyard.shipping.backends import make_backend
from trainyard.shipping.cursor import Cursor
from trainyard.shipping.delivery import Deadline, Delivery
from trainyard.spool.folder import SpoolFolder, write_json
from trainyard.spool.records import Start

_TIDY_EVERY_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipment:
    """What became of one spool."""

    complete: bool
    undelivered: Mapping[str, str]
    """Backend that lacks something, and why."""


class Shipper:
    """Delivers one spool to all of its backends."""

    def __init__(
        self,
        folder: SpoolFolder,
        *,
        deadline: Deadline,
        say: Callable[[str], None],
        report: Callable[[str], None] | None = None,
    ) -> None:
        """`say` is told what goes wrong, `report` what is complete: by default `say`, too."""
        self._folder = folder
        self._deadline = deadline
        self._say = say
        self._report = report or say
        self._freed: set[str] = set()

    def run(self) -> Shipment:
        """Until everything is delivered or the deadline passes. Raises SpoolError if this is no spool."""
        start = self._folder.start()
        with self._folder.shipping() as mine:
            if not mine:
                return Shipment(complete=False, undelivered={"all": "another process is delivering this spool"})
            if self._folder.shipped.exists():
                return Shipment(complete=True, undelivered={})
            deliveries = [self._delivery(start, name) for name in start.backends]
            threads = [
                threading.Thread(target=each.run, name=f"ship-{each.cursor.backend}", daemon=True)
                for each in deliveries
            ]
            for thread in threads:
                thread.start()
            while alive := [thread for thread in threads if thread.is_alive()]:
                self._free(deliveries)
                alive[0].join(_TIDY_EVERY_S)
            return self._conclude(start, deliveries)

    def _delivery(self, start: Start, name: str) -> Delivery:
        cursor = Cursor(self._folder, name, say=self._say)
        return Delivery(self._folder, start, make_backend(name), cursor, self._deadline, say=self._say)

    def _conclude(self, start: Start, deliveries: Sequence[Delivery]) -> Shipment:
        left = {
            each.cursor.backend: each.trouble or "there was no time to send everything"
            for each in deliveries
            if not each.cursor.ended
        }
        if left:
            for backend, trouble in left.items():
                self._say(f"{backend}: run {start.name} is incomplete there: {trouble}")
            self._say(
                f"run {start.name}: what is missing is in {self._folder.path}; `trainyard spool ship` delivers it"
            )
            return Shipment(complete=False, undelivered=left)
        write_json(self._folder.shipped, {each.cursor.backend: each.cursor.summary() for each in deliveries})
        self._folder.discard_delivered()
        for each in deliveries:
            self._report(f"{each.cursor.backend}: run {start.name} is complete there: {each.cursor.describe()}")
        return Shipment(complete=True, undelivered={})

    def _free(self, deliveries: Sequence[Delivery]) -> None:
        """Delete the segments and the copies that every backend has."""
        waiting = [each for each in deliveries if not each.cursor.ended]
        if not waiting:
            return
        for copy in set.intersection(*(each.copies for each in waiting)) - self._freed:
            self._folder.discard_copy(copy)
            self._freed.add(copy)
        done = min(each.cursor.position.segment for each in waiting)
        for sequence in self._folder.segments():
            if sequence < done:
                self._folder.segment(sequence).unlink(missing_ok=True)
