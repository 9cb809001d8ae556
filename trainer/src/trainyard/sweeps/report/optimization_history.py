"""How good each trial was, in the order in which they began."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from matplotlib.ticker import MaxNLocator

from trainyard.reports.picture import new_figure, png
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best, has_values, is_usable
from trainyard.sweeps.report.style import BEST, FAILED, FINISHED, PRUNED, scale
from trainyard.sweeps.sweep import Sweep

_Point = tuple[int, float]
_MOST_NAMES: Final = 8


def optimization_history_png(sweep: Sweep, trials: Sequence[TrialRecord]) -> bytes | None:
    """A PNG, 900 pixels wide and 500 high for each objective, one above the other; None if no trial has a value."""
    if not any(_value(sweep, trial, 0) is not None for trial in trials):
        return None
    count = len(sweep.objectives)
    figure = new_figure(900, 500 * count)
    for index in range(count):
        _draw(figure.add_subplot(count, 1, index + 1), sweep, trials, index)
    return png(figure)


def _draw(axes: Any, sweep: Sweep, trials: Sequence[TrialRecord], index: int) -> None:
    objective = sweep.objectives[index]
    chosen = {trial.number for trial in best(sweep, trials)}
    usable = _points(sweep, trials, index, lambda trial: is_usable(sweep, trial) and trial.number not in chosen)
    infeasible = _points(sweep, trials, index, lambda trial: trial.state == "finished" and not trial.feasible)
    pruned = _points(sweep, trials, index, lambda trial: trial.state in ("pruned", "stopped"))
    winners = _points(sweep, trials, index, lambda trial: trial.number in chosen)
    lost = [at for at, trial in enumerate(trials, start=1) if _is_lost(sweep, trial)]

    axes.set_xlabel("trials, in the order in which they began")
    so_far = sorted([*usable, *winners])
    if len(sweep.objectives) == 1 and so_far:
        pick = min if objective.goal == "minimize" else max
        steps = [(at, value) for (at, _), value in zip(so_far, accumulate((y for _, y in so_far), pick), strict=True)]
        steps.append((len(trials), steps[-1][1]))
        axes.step(*zip(*steps, strict=True), where="post", color=BEST, alpha=0.6, label="best so far")
    _scatter(axes, pruned, "ended early, at its last value", marker="o", facecolors="none", edgecolors=PRUNED)
    _scatter(axes, infeasible, "violates a constraint", marker="x", color=FAILED)
    _scatter(axes, usable, "finished", marker="o", color=FINISHED)
    label = "best" if len(sweep.objectives) == 1 else "beaten by no other one"
    _scatter(axes, winners, label, marker="*", s=220, color=BEST, edgecolors="black", linewidths=0.6, zorder=4)
    for at, value in winners[:_MOST_NAMES]:
        offset = {"xytext": (0, 12 if objective.goal == "minimize" else -18), "textcoords": "offset points"}
        axes.annotate(f"trial {trials[at - 1].number}", (at, value), ha="center", fontsize=9, zorder=5, **offset)
    if lost:
        # At the lower edge, whatever the values are.
        axes.plot(
            lost,
            [0.02] * len(lost),
            "|",
            markersize=12,
            markeredgewidth=2,
            color=FAILED,
            label="failed, or no number",
            transform=axes.get_xaxis_transform(),
        )
    scale(axes, "y", objective, [value for _, value in [*usable, *winners, *infeasible, *pruned]])
    axes.set_xlim(0.5, max(len(trials), 2) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)


def _scatter(axes: Any, points: Sequence[_Point], label: str, **look: Any) -> None:
    if points:
        axes.scatter(*zip(*points, strict=True), label=label, **{"s": 40, "zorder": 3, **look})


def _points(sweep: Sweep, trials: Sequence[TrialRecord], index: int, wanted: Any) -> list[_Point]:
    found = ((at, _value(sweep, trial, index)) for at, trial in enumerate(trials, start=1) if wanted(trial))
    return [(at, value) for at, value in found if value is not None]


def _is_lost(sweep: Sweep, trial: TrialRecord) -> bool:
    return trial.state == "failed" or (trial.state == "finished" and not has_values(sweep, trial))


def _value(sweep: Sweep, trial: TrialRecord, index: int) -> float | None:
    """What it came to; of one that was ended early the last that was heard."""
    if trial.state == "finished":
        return trial.values[index] if has_values(sweep, trial) else None
    if trial.state not in ("pruned", "stopped"):
        return None
    heard = trial.history[max(trial.history)] if trial.history and index == 0 else math.nan
    value = trial.values[index] if len(trial.values) > index else heard
    return value if math.isfinite(value) else None
