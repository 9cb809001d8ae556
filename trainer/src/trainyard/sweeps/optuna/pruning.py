"""Which trials are ended early."""

import copy
from collections.abc import Callable

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from trainyard.sweeps.sweep import EarlyStop


def pruner(early_stop: EarlyStop | None) -> BasePruner:
    """The one that the sweep file asks for."""
    if early_stop is None:
        return NopPruner()
    if early_stop.type == "median":
        return MedianPruner(n_startup_trials=early_stop.warmup_trials)
    rungs = {"min_resource": early_stop.min_steps, "reduction_factor": early_stop.reduction}
    # Without a known end, hyperband has one bracket, in W&B too.
    if early_stop.type == "asha" or early_stop.max_steps is None:
        return SuccessiveHalvingPruner(**rungs)
    return HyperbandPruner(max_resource=early_stop.max_steps, **rungs)


def judge(early_stop: EarlyStop | None) -> Callable[[Study, FrozenTrial], bool]:
    """Whether a trial, as the study knows it, should end now.

    `min_steps` and `max_steps` count reports, as in W&B: a program may report each epoch, or each 100 steps.
    """
    if early_stop is None:
        return lambda _study, _trial: False

    def should_end(study: Study, trial: FrozenTrial) -> bool:
        if len(trial.intermediate_values) < early_stop.min_steps:
            return False
        # Median compares with others at the same step, the others with rungs.
        told = trial if early_stop.type == "median" else _numbered(trial)
        return bool(study.pruner.prune(study, told))

    return should_end


def _numbered(trial: FrozenTrial) -> FrozenTrial:
    numbered = copy.copy(trial)
    reports = sorted(trial.intermediate_values.items())
    numbered.intermediate_values = {number: value for number, (_, value) in enumerate(reports, start=1)}
    return numbered
