"""One write at a time, beside the training."""

import threading
import time
from collections.abc import Callable
from typing import Final

_POLL_S: Final = 0.2


class Writer:
    """Runs what it is given in a thread, and keeps what that raised."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._enough = threading.Event()
        self._failure: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether a write is in flight."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, write: Callable[[], None]) -> None:
        """Begin; must not be busy."""

        def run() -> None:
            try:
                write()
            except Exception as error:
                self._failure = error

        self._enough.clear()
        self._failure = None
        # No daemon: one that returns from C++ when the interpreter has ended aborts the process, and the exit code would lie.
        self._thread = threading.Thread(target=run, name="trainyard-checkpoint")
        self._thread.start()

    def finish(self, look: Callable[[], None]) -> Exception | None:
        """Wait for the end of the one in flight; returns what it raised. Calls `look`, which may raise, now and then."""
        while self._thread is not None and self._thread.is_alive():
            # Not without a limit: signal handlers run in between.
            self._thread.join(_POLL_S)
            look()
        return self._failure

    def stop_trying(self) -> None:
        """What is in flight may end its work, but not wait for a store any longer."""
        self._enough.set()

    def wait(self, seconds: float) -> bool:
        """For the thread itself: sleep; False if nobody wants it to try again."""
        end = time.monotonic() + seconds
        while not self._enough.is_set() and threading.main_thread().is_alive():
            left = end - time.monotonic()
            if left <= 0:
                return True
            self._enough.wait(min(left, _POLL_S))
        return False
