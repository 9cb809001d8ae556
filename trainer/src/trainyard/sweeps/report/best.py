"""Which trials are best."""

import math
from collections.abc import Sequence

from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.sweep import Sweep


def best(sweep: Sweep, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The one best trial, the first of equals; with several objectives all that no other one beats, by the first objective.

    Only finished ones that keep all constraints and have a number for each objective. Empty if there is none.
    """
    usable = sorted((trial for trial in trials if is_usable(sweep, trial)), key=lambda trial: costs(sweep, trial))
    if len(sweep.objectives) == 1:
        return usable[:1]
    return [trial for trial in usable if not any(_beats(sweep, other, trial) for other in usable)]


def is_usable(sweep: Sweep, trial: TrialRecord) -> bool:
    """Whether the trial may be the best one."""
    return trial.state == "finished" and trial.feasible and has_values(sweep, trial)


def has_values(sweep: Sweep, trial: TrialRecord) -> bool:
    """Whether there is a number for each objective; a loss that became NaN is none."""
    return len(trial.values) == len(sweep.objectives) and all(map(math.isfinite, trial.values))


def costs(sweep: Sweep, trial: TrialRecord) -> tuple[float, ...]:
    """The trial's values with their signs such that less is better."""
    pairs = zip(sweep.objectives, trial.values, strict=True)
    return tuple(value if objective.goal == "minimize" else -value for objective, value in pairs)


def _beats(sweep: Sweep, one: TrialRecord, other: TrialRecord) -> bool:
    """No worse in anything, better in something."""
    mine, theirs = costs(sweep, one), costs(sweep, other)
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))
