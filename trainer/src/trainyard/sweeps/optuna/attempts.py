"""The trials of a study, each with all its attempts: Optuna counts an interrupted one and its continuation as two."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from trainyard.sweeps.records import State, TrialRecord
from trainyard.sweeps.sweep import Constraint, Sweep

REASON: Final = "reason"
"""User attribute of a trial: why it failed."""
PUT_BACK: Final = "put_back"
"""User attribute of an attempt that another one continues: its own number, since the other one inherits it."""
LAST: Final = "last"
"""User attribute: the newest value of each metric that the sweep needs."""
CELL: Final = "cell"
"""User attribute: which cell of the grid it is."""
_STATES: Final[Mapping[TrialState, State]] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True)
class Attempts:
    """Those of one trial, in order."""

    all: tuple[FrozenTrial, ...]

    @property
    def first(self) -> FrozenTrial:
        """Its number is the trial's."""
        return self.all[0]

    @property
    def last(self) -> FrozenTrial:
        """Its state is the trial's."""
        return self.all[-1]

    @property
    def state(self) -> State:
        """Of the trial."""
        if self.last.state == TrialState.FAIL and was_put_back(self.last):
            return "waiting"  # its continuation is not there yet
        return _STATES[self.last.state]


def original(trial: FrozenTrial) -> int:
    """Number of the first attempt."""
    number = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if number is None else int(number)


def was_put_back(trial: FrozenTrial) -> bool:
    """Whether it is, or will be, continued by another attempt."""
    return bool(trial.user_attrs.get(PUT_BACK) == trial.number)


def folded(trials: Sequence[FrozenTrial]) -> list[Attempts]:
    """Of each trial of a study, in the order of their numbers."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda each: each.number):
        found.setdefault(original(trial), []).append(trial)
    return [Attempts(tuple(found[number])) for number in sorted(found)]


def violation(constraint: Constraint, value: float | None) -> float:
    """How far `value` is out of bounds, as Optuna has it: above 0 is too far. A value that is not known counts as that."""
    if value is None or math.isnan(value):
        return math.inf
    over = -math.inf if constraint.max is None else value - constraint.max
    under = -math.inf if constraint.min is None else constraint.min - value
    return max(over, under)


def record(sweep: Sweep, attempts: Attempts) -> TrialRecord:
    """What became of it."""
    last, state = attempts.last, attempts.state
    ended = state in ("finished", "pruned")
    told = last.constraints
    return TrialRecord(
        number=str(attempts.first.number),
        state=state,
        parameters={**sweep.constants, **last.params},
        values=tuple(last.values) if ended and last.values else (),
        history=dict(sorted(last.intermediate_values.items())),
        feasible=not sweep.constraints or bool(told and all(value <= 0 for value in told.values())),
        attempts=len(attempts.all),
        began=_aware(attempts.first.datetime_start),
        ended=None if state in ("waiting", "running") else _aware(last.datetime_complete),
        reason=str(last.user_attrs.get(REASON, "")) if state == "failed" else "",
    )


def _aware(moment: datetime | None) -> datetime | None:
    """Optuna stores the worker's local time without saying so."""
    return None if moment is None else moment.astimezone()
