"""What each epoch came to: a part of the checkpoint, so that it is whole after a resume."""

from collections.abc import Mapping
from typing import Any


class History:
    """A row of numbers by name for each epoch, oldest first."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """The row of an epoch that ended with `step`."""
        self.rows.append({"epoch": epoch, "step": step, **metrics})

    def last(self, name: str) -> float | None:
        """The newest value; None before the end of the first epoch."""
        return self.rows[-1][name] if self.rows else None

    @property
    def epochs(self) -> int:
        """How many have ended."""
        return len(self.rows)

    def curve(self, name: str) -> list[float]:
        """One value per epoch."""
        return [row[name] for row in self.rows]

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.rows = [dict(row) for row in state["rows"]]
