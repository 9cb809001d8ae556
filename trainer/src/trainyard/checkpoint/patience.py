"""Trying again while a store does not answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from trainyard.checkpoint.errors import CheckpointError, StoreUnavailable

_T = TypeVar("_T")
_SAY_EVERY_S: Final = 30.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Repeats a call for as long as it makes sense."""

    limit_s: float
    """Seconds of trying."""
    wait: Callable[[float], bool]
    """Sleeps that many seconds, or less; False = it is enough. May raise."""
    say: Callable[[str], None]
    quiet_s: float = 0.0
    """Seconds until it says for the first time that it tries again."""

    def __call__(self, call: Callable[[], _T]) -> _T:
        """What `call` gives. Raises CheckpointError when it is enough, and whatever else `call` raises."""
        began = time.monotonic()
        said = began + self.quiet_s - _SAY_EVERY_S
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                now = time.monotonic()
                if now - began < self.limit_s and now - said >= _SAY_EVERY_S:
                    said = now
                    self.say(f"{error}; trying again, {now - began:.0f} s so far")
                if now - began >= self.limit_s or not self.wait(min(pause, began + self.limit_s - now)):
                    raise CheckpointError(f"{error}; given up after {now - began:.0f} s") from error
                pause = min(2 * pause, _LONGEST_PAUSE_S)
