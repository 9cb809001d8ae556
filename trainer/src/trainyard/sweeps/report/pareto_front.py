"""Two or three objectives against each other."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

from trainyard.reports.picture import new_figure, png
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best, has_values, is_usable
from trainyard.sweeps.report.style import BEST, FAILED, FINISHED, scale
from trainyard.sweeps.sweep import Sweep

_MOST_NAMES = 15


def pareto_front_png(sweep: Sweep, trials: Sequence[TrialRecord]) -> bytes | None:
    """A PNG, 650 pixels high and 750 wide for each pair of objectives; None for another number of them, or without values."""
    shown = [trial for trial in trials if trial.state == "finished" and has_values(sweep, trial)]
    if len(sweep.objectives) not in (2, 3) or not shown:
        return None
    pairs = list(combinations(range(len(sweep.objectives)), 2))
    figure = new_figure(750 * len(pairs), 650)
    for at, (x, y) in enumerate(pairs, start=1):
        _draw(figure.add_subplot(1, len(pairs), at), sweep, shown, x, y)
    return png(figure)


def _draw(axes: Any, sweep: Sweep, shown: Sequence[TrialRecord], x: int, y: int) -> None:
    front = best(sweep, shown)
    chosen = {trial.number for trial in front}
    others = [trial for trial in shown if is_usable(sweep, trial) and trial.number not in chosen]
    infeasible = [trial for trial in shown if not trial.feasible]
    scale(axes, "x", sweep.objectives[x], [trial.values[x] for trial in shown])
    scale(axes, "y", sweep.objectives[y], [trial.values[y] for trial in shown])
    for group, label, look in (
        (others, "finished", {"color": FINISHED}),
        (infeasible, "violates a constraint", {"color": FAILED, "marker": "x"}),
        (front, "beaten by no other one", {"color": BEST, "edgecolors": "black", "linewidths": 0.6, "s": 90}),
    ):
        if group:
            points = [(trial.values[x], trial.values[y]) for trial in group]
            axes.scatter(*zip(*points, strict=True), label=label, zorder=3, **look)
    if len(sweep.objectives) == 2 and front:
        axes.plot(*_border(front), color=BEST, alpha=0.5, zorder=2)
    for trial in front[:_MOST_NAMES]:
        axes.annotate(
            trial.number, (trial.values[x], trial.values[y]), xytext=(6, 6), textcoords="offset points", fontsize=8
        )
    if (x, y) == (0, 1):
        axes.legend(frameon=False)


def _border(front: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
    """The steps on one side of which lies all that is beaten."""
    points = [(trial.values[0], trial.values[1]) for trial in front]
    corners = [(right[0], left[1]) for left, right in pairwise(points)]
    line = [point for pair in zip(points, corners, strict=False) for point in pair] + points[-1:]
    return [x for x, _ in line], [y for _, y in line]
