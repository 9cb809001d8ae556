"""How much of the differences between trials each parameter explains."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from trainyard.errors import ConfigError
from trainyard.reports.picture import new_figure, png
from trainyard.sweeps.optuna.space import search_space
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import has_values
from trainyard.sweeps.report.style import FINISHED, needs_log, shortened
from trainyard.sweeps.sweep import Sweep

_FEWEST: Final = 5
"""Finished trials below which chance explains more than any parameter."""
_MOST: Final = 400
"""Finished trials that are looked at; with 2,000 it would take a minute, and tell the same."""


def importances(sweep: Sweep, trials: Sequence[TrialRecord], objective: int = 0) -> dict[str, float]:
    """Shares that add up to 1, the largest first; empty where too few trials finished, or all with the same result.

    By fANOVA, which looks at all finished trials, those that violate a constraint included: they are as informative.
    """
    try:
        space = search_space(sweep)
    except ConfigError:  # W&B can search what Optuna cannot
        return {}
    shown = [trial for trial in trials if trial.state == "finished" and has_values(sweep, trial)]
    # One that diverged would otherwise explain everything.
    log = needs_log(sweep.objectives[objective], [trial.values[objective] for trial in shown])
    values = (math.log(trial.values[objective]) if log else trial.values[objective] for trial in shown)
    known = (_frozen(trial, value, space) for trial, value in zip(shown, values, strict=True))
    all_finished = [trial for trial in known if trial is not None]
    finished = all_finished[:: math.ceil(len(all_finished) / _MOST) or 1]
    varied = [name for name in space if len({trial.params[name] for trial in finished}) > 1]
    if len(finished) < _FEWEST or not varied or len({trial.value for trial in finished}) < 2:
        return {}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        study.add_trials(finished)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied)
    finally:
        optuna.logging.set_verbosity(level)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def importances_png(shares_of: Mapping[str, Mapping[str, float]]) -> bytes | None:
    """A PNG, 700 pixels wide for each objective, from its shares by its name; None if nothing is said of any."""
    found = {name: shares for name, shares in shares_of.items() if shares}
    if not found:
        return None
    longest = max(map(len, found.values()))
    figure = new_figure(700 * len(found), 160 + 45 * longest)
    for at, (name, shares) in enumerate(found.items(), start=1):
        axes = figure.add_subplot(1, len(found), at, xlabel="share of the differences between trials")
        axes.set_title(f"what {shortened(name)} depends on")
        labels = [shortened(parameter) for parameter in reversed(list(shares))]
        bars = axes.barh(labels, list(shares.values())[::-1], color=FINISHED, height=0.6)
        axes.bar_label(bars, fmt=lambda share: f"{100 * share:.0f} %", padding=4)
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def _frozen(trial: TrialRecord, value: float, space: Mapping[str, BaseDistribution]) -> FrozenTrial | None:
    """As Optuna knows it; None where a parameter is not of the space."""
    try:
        return create_trial(
            state=TrialState.COMPLETE,
            params={name: trial.parameters[name] for name in space},
            distributions=dict(space),
            value=value,
        )
    except (KeyError, ValueError):
        return None
