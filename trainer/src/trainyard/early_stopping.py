"""When it is enough."""

import math
from collections.abc import Mapping
from typing import Any


class EarlyStopping:
    """Stops after `patience` values in a row that are not lower than the lowest by more than `least_gain`.

    A value that is no number (NaN) is not lower. `patience` 0 never stops.
    """

    def __init__(self, *, patience: int, least_gain: float = 0.0) -> None:
        if patience < 0 or not 0 <= least_gain < math.inf:
            raise ValueError(f"EarlyStopping: patience {patience}, least_gain {least_gain}: must be 0 or more")
        self._patience = patience
        self._least_gain = least_gain
        self.best = math.inf
        self.since_best = 0

    def stop(self, value: float) -> bool:
        """Take the next value; whether to stop. To be given the same value on all ranks."""
        if value < self.best - self._least_gain:
            self.best, self.since_best = value, 0
        else:
            self.since_best += 1
        return 0 < self._patience <= self.since_best

    def state_dict(self) -> dict[str, Any]:
        """What it has seen."""
        return {"best": self.best, "since_best": self.since_best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there; `patience` and `least_gain` may be others."""
        self.best, self.since_best = state["best"], state["since_best"]
