"""Delivering every spool of a state directory: the sidecar of a pod, `trainyard spool ship`, the thread of a laptop."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainyard.errors import SpoolError
from trainyard.shipping.delivery import Deadline
from trainyard.shipping.shipper import Shipper
from trainyard.spool.folder import SpoolFolder, spools

_POLL_S = 0.5
_SAY_EVERY_S = 30.0
_KEEP_S = 7 * 86400.0


class Service:
    """Ships every spool below `parent`, each in a thread of its own, until told to stop."""

    def __init__(
        self,
        parent: Path,
        *,
        say: Callable[[str], None],
        report: Callable[[str], None] | None = None,
        only_pod: str | None = None,
        leftovers: bool = True,
    ) -> None:
        """`say` and `report`: see Shipper. `only_pod`: leave alone what other pods write; with `leftovers` not what they wrote."""
        self._parent = parent
        self._say = say
        self._report = report or say
        self._only_pod = only_pod
        self._leftovers = leftovers
        self._deadline = Deadline()
        self._threads: dict[Path, threading.Thread] = {}

    def stop_within(self, seconds: float) -> None:
        """Finish what is there, for `seconds` at most. May be called from a signal handler."""
        self._deadline.expire_in(seconds)

    def run(self, *, only_abandoned: bool = False) -> bool:
        """Ship until stopped; whether everything is delivered. `only_abandoned` leaves those alone that are still written."""
        for folder in spools(self._parent):
            _forget_if_old(folder)
        while True:
            waiting = [folder for folder in spools(self._parent) if self._is_mine(folder) and not _is_done(folder)]
            if only_abandoned:
                waiting = [folder for folder in waiting if folder.path in self._threads or not folder.writer_alive()]
            for folder in waiting:
                self._take_up(folder)
            if self._deadline.is_set() and (not waiting or self._deadline.passed()):
                break
            # No event: a signal handler that sets the one its own thread waits for may find its lock taken.
            time.sleep(_POLL_S)
        for thread in self._threads.values():
            thread.join()
        return all(folder.shipped.exists() for folder in waiting)

    def _is_mine(self, folder: SpoolFolder) -> bool:
        if self._only_pod is None:
            return True
        try:
            if folder.start().tags.get("trainyard.pod_name") == self._only_pod:
                return True
        except SpoolError:  # told by whoever delivers what is left
            return self._leftovers
        return self._leftovers and not folder.writer_alive()

    def _take_up(self, folder: SpoolFolder) -> None:
        thread = self._threads.get(folder.path)
        if thread is not None and thread.is_alive():
            return
        self._threads[folder.path] = start_shipping(folder, self._deadline, say=self._say, report=self._report)


def _is_done(folder: SpoolFolder) -> bool:
    if not folder.shipped.exists():
        return False
    if folder.artifacts.exists():  # whoever delivered it was killed while it tidied up
        folder.discard_delivered()
    return True


def _forget_if_old(folder: SpoolFolder) -> None:
    """Summaries of delivered runs are kept for `trainyard spool show`, but not for ever."""
    try:
        old = time.time() - folder.shipped.stat().st_mtime > _KEEP_S
    except FileNotFoundError:
        return
    if old:
        shutil.rmtree(folder.path, ignore_errors=True)


def start_shipping(
    folder: SpoolFolder,
    deadline: Deadline,
    *,
    say: Callable[[str], None],
    report: Callable[[str], None] | None = None,
) -> threading.Thread:
    """Ship one spool in a thread; `say` and `report`: see Shipper."""

    def ship() -> None:
        try:
            Shipper(folder, deadline=deadline, say=say, report=report).run()
        except SpoolError as error:
            say(str(error))
            deadline.pause(_SAY_EVERY_S)

    thread = threading.Thread(target=ship, name=f"ship-{folder.uid}", daemon=True)
    thread.start()
    return thread


def wait_until_shipped(
    folder: SpoolFolder, *, within_s: float, pause: Callable[[float], None], say: Callable[[str], None]
) -> Mapping[str, Any]:
    """Return what became of the run in each backend, once all have everything. Raises SpoolError after `within_s` seconds."""
    began = said = time.monotonic()
    while not folder.shipped.exists():
        now = time.monotonic()
        if now - began >= within_s:
            raise SpoolError(
                f"the record of this run could not be delivered within {within_s:.0f} s (TRAINYARD_SHIP_DEADLINE_S); it is in "
                f"{folder.path}; `trainyard spool ship` delivers it where that directory still exists{_if_nobody(folder)}"
            )
        if now - said >= _SAY_EVERY_S:
            said = now
            say(
                f"training has ended; waiting for the rest of its record to be delivered: {now - began:.0f} of "
                f"{within_s:.0f} s{_if_nobody(folder)}"
            )
        pause(0.1)
    receipt: dict[str, Any] = json.loads(folder.shipped.read_bytes())
    return receipt


def _if_nobody(folder: SpoolFolder) -> str:
    """What may be the reason where no process delivers."""
    with folder.shipping() as nobody:
        return "; nobody delivers it: does the container with `trainyard spool ship --follow` run?" if nobody else ""
