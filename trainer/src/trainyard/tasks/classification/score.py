"""How good a model is, and under which names that is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """How good the model is on a part of the data, or was on a batch."""

    loss: float
    """Mean cross-entropy, in nats."""
    accuracy: float
    """Share of right predictions, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricNames:
    """What a task calls its metrics: `part/loss` and `part/accuracy`, with a suffix where steps and epochs both have one."""

    accuracy: str = "accuracy"
    step: str = ""
    """Suffix of what is recorded at each step."""
    epoch: str = "_epoch"
    """Suffix of the means over the training examples of an epoch."""

    def of_step(self, score: Score) -> dict[str, float]:
        """A training step's score."""
        return self.named("train", score, self.step)

    def of_epoch(self, trained: Score, validated: Score) -> dict[str, float]:
        """An epoch's scores."""
        return {**self.named("train", trained, self.epoch), **self.named("validation", validated)}

    def named(self, part: str, score: Score, suffix: str = "") -> dict[str, float]:
        """The score of one part of the data."""
        return {f"{part}/loss{suffix}": score.loss, f"{part}/{self.accuracy}{suffix}": score.accuracy}


class Tally:
    """The mean score over the examples of an epoch, so far; a part of the checkpoint."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._right = 0.0
        self._count = 0

    def add(self, score: Score, count: int) -> None:
        """Take the score of a batch of `count` examples."""
        self._loss += score.loss * count
        self._right += score.accuracy * count
        self._count += count

    def take(self) -> Score:
        """The mean over all examples, not over batches; begins again with nothing."""
        mean = Score(self._loss / self._count, self._right / self._count)
        self._loss, self._right, self._count = 0.0, 0.0, 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {"loss": self._loss, "right": self._right, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self._loss, self._right, self._count = state["loss"], state["right"], state["count"]
