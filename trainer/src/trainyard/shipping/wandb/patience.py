"""Waiting for a server that is slow, but not for one that is stuck."""

import math
import time
from collections.abc import Callable

from trainyard.shipping.backend import Retry
from trainyard.shipping.wandb.graphql import NoAnswer

_FIRST_PAUSE_S = 0.3
_LONGEST_PAUSE_S = 2.0


def wait_for(have: Callable[[], float], wanted: float, *, patience_s: float, lacking: str) -> None:
    """Until the server has that much. Raises Retry when there was no progress for `patience_s`; `lacking` says of what."""
    best, since, pause = -math.inf, time.monotonic(), _FIRST_PAUSE_S
    while True:
        try:
            got = have()
            trouble = f"{lacking}, and nothing arrived for {patience_s:.0f} s"
        except NoAnswer as error:
            got, trouble = best, str(error)
        if got >= wanted:
            return
        if got > best:
            best, since = got, time.monotonic()
        if time.monotonic() - since >= patience_s:
            raise Retry(trouble)
        time.sleep(pause)
        pause = min(1.2 * pause, _LONGEST_PAUSE_S)
