"""Signs of life of a trial, while its program runs."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final

from trainyard.sweeps.optuna.contact import Away

_AWAY_PAUSE_S: Final = 2.0


class Heartbeat:
    """A context with a thread, which calls `lost` once if the trial turns out to be another worker's."""

    def __init__(
        self, beat: Callable[[], bool], interval_s: float, *, lost: Callable[[], None], done: Callable[[], None]
    ) -> None:
        """`done`: called in the thread at its end, to give back what it used."""
        self._beat = beat
        self._interval_s = interval_s
        self._lost = lost
        self._done = done
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainyard-heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            pause = self._interval_s
            while not self._stop.wait(pause):
                try:
                    alive = self._beat()
                except Away:
                    pause = min(_AWAY_PAUSE_S, self._interval_s)
                    continue
                pause = self._interval_s
                if not alive:
                    self._lost()
                    return
        finally:
            self._done()
