"""Waiting for an answer of MLflow that there is no way around."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from trainyard.errors import ConfigError, TrackingError
from trainyard.interruption import Interruption
from trainyard.shipping.backend import Retry, Unusable
from trainyard.shipping.mlflow.api import Refused

_T = TypeVar("_T")
_PAUSE_S: Final = 1.0
_SAY_EVERY_S: Final = 10.0


def wait_for(
    ask: Callable[[], _T],
    *,
    wait_s: float,
    interruption: Interruption,
    say: Callable[[str], None],
    purpose: str,
    setting: str = "TRAINYARD_TRACKING_WAIT_S",
) -> _T:
    """What `ask` returns, tried again while it raises Retry.

    `purpose` says what for, as in `waiting to begin: 20 of 300 s`; `setting` is where `wait_s` comes from. Raises ConfigError for what no retry can help, TrackingError
    for a refusal and after `wait_s`, Interrupted after a signal.
    """
    began = said = time.monotonic()
    while True:
        try:
            return ask()
        except Unusable as unusable:
            raise ConfigError(str(unusable)) from unusable
        except Refused as refused:
            raise TrackingError(str(refused)) from refused
        except Retry as reason:
            now = time.monotonic()
            if now - began >= wait_s:
                raise TrackingError(f"{reason}; tried for {now - began:.0f} s ({setting})") from reason
            if now - said >= _SAY_EVERY_S:
                said = now
                say(f"waiting to {purpose}: {now - began:.0f} of {wait_s:.0f} s, {reason}")
        interruption.sleep(_PAUSE_S)
