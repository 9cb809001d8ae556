"""How often a training is saved, and how much of it is kept."""

from dataclasses import dataclass
from typing import Annotated

from trainyard.config import Config, Range


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig(Config):
    """The section `checkpoint` of every task's configuration."""

    every_steps: Annotated[int, Range(0, 10**12)] = 0
    """Steps between checkpoints; 0 = not by steps."""
    every_minutes: Annotated[float, Range(0, 10**6)] = 5.0
    """Minutes between checkpoints; 0 = not by time. With neither, only SIGTERM writes one."""
    keep_last: Annotated[int, Range(1, 1000)] = 2
    """How many of the newest checkpoints are kept; with 1, nothing is left if that one is damaged."""
    keep_best: Annotated[int, Range(0, 1)] = 1
    """1 = keep the one with the best score too."""
