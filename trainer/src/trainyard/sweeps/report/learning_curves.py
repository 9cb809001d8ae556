"""The first objective of each trial, step by step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trainyard.reports.picture import new_figure, png
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best
from trainyard.sweeps.report.style import BEST, FAILED, FINISHED, PRUNED, scale
from trainyard.sweeps.sweep import Sweep

_LOOKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "finished": {"color": FINISHED, "alpha": 0.7},
    "pruned": {"color": PRUNED},
    "stopped": {"color": PRUNED},
    "failed": {"color": FAILED, "linestyle": ":"},
}
_LABELS: Final = {"pruned": "ended early", "stopped": "stopped"}


def learning_curves_png(sweep: Sweep, trials: Sequence[TrialRecord]) -> bytes | None:
    """A PNG of 900x600 pixels; None if no trial told more than one value."""
    curves = {
        trial.number: [(step, value) for step, value in sorted(trial.history.items()) if math.isfinite(value)]
        for trial in trials
    }
    if not any(len(curve) > 1 for curve in curves.values()):
        return None
    figure = new_figure(900, 600)
    axes = figure.add_subplot(xlabel="step")
    scale(axes, "y", sweep.objectives[0], [value for curve in curves.values() for _, value in curve])
    chosen = {trial.number for trial in best(sweep, trials)}
    seen: set[str] = set()
    for trial in trials:
        curve = curves[trial.number]
        if not curve or trial.number in chosen or trial.state not in _LOOKS:
            continue
        label = _LABELS.get(trial.state, trial.state)
        look = _LOOKS[trial.state]
        axes.plot(*zip(*curve, strict=True), lw=1.2, label=None if label in seen else label, **look)
        seen.add(label)
        if trial.state != "finished":
            axes.plot(*curve[-1], marker="x" if trial.state == "failed" else "o", ms=4, color=look["color"])
    for trial in (each for each in trials if each.number in chosen):
        title = f"best: trial {trial.number}" if len(chosen) == 1 else f"trial {trial.number}"
        # A single point makes no line.
        axes.plot(*zip(*curves[trial.number], strict=True), marker=".", lw=2.5, color=BEST, label=title, zorder=4)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return png(figure)
