"""SIGTERM and SIGINT: remembered here, acted on where a step ends."""

import signal
import time
from types import FrameType

from trainyard.errors import Interrupted

_POLL_S = 0.2


class Interruption:
    """The first SIGTERM or SIGINT sets a flag; a second one has the effect it had before `install`."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def install(self) -> None:
        """Start to listen. Must run in the main thread."""
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def remember(number: int, _frame: FrameType | None) -> None:
            self._signal = signal.Signals(number)
            for each, handler in previous.items():
                signal.signal(each, handler)

        for number in previous:
            signal.signal(number, remember)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has arrived."""
        if self._signal is not None:
            raise Interrupted(self._signal, self._signal.name)

    def sleep(self, seconds: float) -> None:
        """Sleep, but raise `Interrupted` soon after a signal: plain `time.sleep` goes on when a handler returns."""
        end = time.monotonic() + seconds
        while True:
            self.check()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _POLL_S))
