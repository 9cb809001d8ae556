"""What every task is to the rest: something that trains into a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trainyard.config import Config
from trainyard.interruption import Interruption
from trainyard.tracking.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a finished training has to show."""

    test_accuracy: float
    """Share of test examples predicted right, 0 to 1."""


class Trainer(Protocol):
    """One training of one configuration."""

    @property
    def config(self) -> Config:
        """What is trained."""

    @property
    def model_name(self) -> str:
        """Kind of model, as in run names."""

    @property
    def dataset_version(self) -> str:
        """Hash of the data's content."""

    @property
    def device(self) -> str:
        """Where it trains, in words."""

    def train(self, run: Run, interruption: Interruption, say: Callable[[str], None]) -> Outcome:
        """Train, evaluate, register. Calls `interruption.check()` after each step; `say` gets a line per epoch."""
