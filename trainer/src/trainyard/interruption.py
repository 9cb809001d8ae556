"""SIGTERM and SIGINT: remembered here, acted on where a step ends."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from trainyard import exit_codes
from trainyard.errors import Interrupted

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_POLL_S = 0.2
_SAY_WITHIN_S = 1.0


class Interruption:
    """The first SIGTERM or SIGINT sets a flag; a second one ends the process at once, with 128 + its number."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._terminated_at: float | None = None
        self._limit: tuple[float, Callable[[str], None]] | None = None
        self._wake: socket.socket | None = None
        self._previous: Mapping[signal.Signals, Any] = {}
        self._masks = threading.local()

    def install(self) -> None:
        """Start to listen. Must run in the main thread (ValueError elsewhere)."""
        self._previous = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            signal.signal(number, self._remember)
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._forget)

    def limit(self, grace_s: float, say: Callable[[str], None]) -> None:
        """End the process `grace_s` after a first SIGTERM, which may have come already: `say` one line, exit with 143.

        Holds even where the main thread is stuck, as in a collective operation whose other side is gone. Called again, it
        replaces what it was told. Must run in the main thread.
        """
        self._limit = (grace_s, say)
        if self._wake is not None:
            return
        watched, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        # Python runs handlers in the main thread alone; this is written by C, at once.
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        if before != -1:  # an event loop's
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(watched,), name="trainyard-grace", daemon=True).start()

    @property
    def requested(self) -> bool:
        """Whether SIGTERM or SIGINT has arrived."""
        return self._received is not None

    @property
    def received(self) -> signal.Signals | None:
        """Which of them has arrived, if any."""
        return self._received

    def learn(self, number: int) -> None:
        """The same as if that signal had arrived here, from whoever listened in between."""
        if self._received is None:
            self._remember(number, None)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has arrived."""
        if self._received is not None:
            raise Interrupted(self._received, self._received.name)

    def sleep(self, seconds: float) -> None:
        """Sleep, but raise `Interrupted` soon after a signal: plain `time.sleep` goes on when a handler returns."""
        end = time.monotonic() + seconds
        while True:
            self.check()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _POLL_S))

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._received is not None:
            os._exit(exit_codes.stopped_by(number))
        self._received = signal.Signals(number)
        if number == signal.SIGTERM:
            self._terminated_at = time.monotonic()
        if self._wake is not None:
            with contextlib.suppress(BlockingIOError):  # full, so there is enough to wake up by
                self._wake.send(bytes([number]))

    def _watch(self, watched: socket.socket) -> None:
        while self._terminated_at is None and signal.SIGTERM not in watched.recv(4096):
            pass
        terminated_at = self._terminated_at or time.monotonic()
        while (left := terminated_at + self._grace_s - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_S))
        # Apart, since whoever reads our output may have stopped reading.
        last_words = threading.Thread(target=self._say_that_time_is_up, daemon=True)
        last_words.start()
        last_words.join(_SAY_WITHIN_S)
        os._exit(exit_codes.stopped_by(signal.SIGTERM))

    @property
    def _grace_s(self) -> float:
        assert self._limit is not None
        return self._limit[0]

    def _say_that_time_is_up(self) -> None:
        assert self._limit is not None
        grace_s, say = self._limit
        say(
            f"SIGTERM was {grace_s:g} s ago and this process has not ended: it ends now, with exit code 143; "
            "if it needs longer, raise TRAINYARD_GRACE_S and the pod's terminationGracePeriodSeconds with it"
        )

    def _hold(self) -> None:
        """A signal for a process that has just been forked waits until it has handlers of its own."""
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _forget(self) -> None:
        """In a fork, as multiprocessing makes them: its signals are its own, and SIGTERM must end it."""
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._remember:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._wake is not None:
            current = signal.set_wakeup_fd(-1)
            if current not in (-1, self._wake.fileno()):
                signal.set_wakeup_fd(current, warn_on_full_buffer=False)
        self._release()


_of_this_process: Interruption | None = None


def of_this_process() -> Interruption:
    """The one object of this process; listens from its first use on, which must be in the main thread."""
    global _of_this_process
    if _of_this_process is None:
        interruption = Interruption()
        interruption.install()
        _of_this_process = interruption
    return _of_this_process
