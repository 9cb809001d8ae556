"""Each trial as a line through its parameters to its result."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable

from trainyard.reports.picture import new_figure, png
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best, costs, has_values
from trainyard.sweeps.report.style import BEST, FAILED, PRUNED, needs_log, number_text, shortened, ticks, visible
from trainyard.sweeps.sweep import Choice, Objective, Parameter, ParameterValue, Sweep

_MOST_AXES: Final = 14
_TICK_LENGTH: Final = 14
_TITLE_LENGTH: Final = 20
_MARGIN: Final = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axis:
    """One vertical axis: where a value is on it, and what is written there."""

    title: str
    places: Mapping[ParameterValue, float] | None = None
    """Of choices."""
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    integer: bool = False

    def at(self, value: ParameterValue) -> float:
        """0 at the bottom to 1 at the top, for what is beyond as well."""
        if self.places is not None:
            return self.places.get(value, math.nan)
        assert not isinstance(value, str)
        within = min(max(float(value), self.low), self.high)
        low, high, here = (math.log(each) if self.log else each for each in (self.low, self.high, within))
        return 0.5 if low == high else (here - low) / (high - low)

    def ticks(self) -> dict[float, str]:
        """Texts by their places."""
        if self.places is not None:
            return {place: shortened(_text(value), _TICK_LENGTH) for value, place in self.places.items()}
        if self.low == self.high:
            return {0.5: number_text(self.low)}
        marked = ticks(self.low, self.high, log=self.log, integer=self.integer)
        return {self.at(value): number_text(value) for value in marked}


def parallel_coordinates_png(
    sweep: Sweep, trials: Sequence[TrialRecord], importances: Mapping[str, float]
) -> bytes | None:
    """A PNG, 600 pixels high; None if no trial finished or nothing is searched. Of many parameters, the important ones."""
    trials = [trial for trial in trials if sweep.parameters.keys() <= trial.parameters.keys()]
    finished = [trial for trial in trials if trial.state == "finished" and has_values(sweep, trial)]
    if not finished or not sweep.parameters:
        return None
    names = sorted(sweep.parameters, key=lambda name: -importances.get(name, 0.0))[:_MOST_AXES]
    names = [name for name in sweep.parameters if name in names]
    axes_of = [_parameter_axis(name, sweep.parameters[name]) for name in names]
    results = [_objective_axis(each, [t.values[i] for t in finished]) for i, each in enumerate(sweep.objectives)]
    figure = new_figure(max(900, 170 * (len(axes_of) + len(results))), 600)
    axes = figure.add_subplot()
    _draw_axes(axes, [*axes_of, *results], len(axes_of))

    chosen = {trial.number for trial in best(sweep, trials)}
    for trial in trials:
        if trial.state in ("pruned", "stopped"):
            _line(axes, axes_of, [trial.parameters[name] for name in names], color=PRUNED, alpha=0.5, lw=1, ls=":")
    shade = _shades(sweep, finished)
    for trial in sorted(finished, key=lambda trial: costs(sweep, trial), reverse=True):
        values = [*(trial.parameters[name] for name in names), *trial.values]
        if trial.number in chosen:
            look: dict[str, Any] = {"color": BEST, "lw": 3.0, "zorder": 4, "marker": "o"}
        elif not trial.feasible:
            look = {"color": FAILED, "lw": 1.0, "ls": "--", "alpha": 0.7}
        else:
            look = {"color": shade(trial), "lw": 1.5, "alpha": 0.8, "zorder": 3}
        _line(axes, [*axes_of, *results], values, **look)
    axes.set_title(_title(sweep, trials, names))
    return png(figure)


def _draw_axes(axes: Any, all_axes: Sequence[_Axis], parameters: int) -> None:
    axes.set_xlim(-0.15, len(all_axes) - 0.35)
    axes.set_ylim(-_MARGIN, 1 + _MARGIN)
    axes.set_xticks(range(len(all_axes)), [shortened(axis.title, _TITLE_LENGTH) for axis in all_axes])
    for place, label in enumerate(axes.get_xticklabels()):
        label.set_fontweight("bold" if place >= parameters else "normal")
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for place, axis in enumerate(all_axes):
        axes.axvline(place, color="black", lw=1.0 if place < parameters else 2.0, zorder=2)
        for height, text in axis.ticks().items():
            axes.annotate(
                text,
                (place, height),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                zorder=5,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
            )


def _line(axes: Any, all_axes: Sequence[_Axis], values: Sequence[ParameterValue], **look: Any) -> None:
    heights = [axis.at(value) for axis, value in zip(all_axes, values, strict=True)]
    axes.plot(range(len(heights)), heights, **look)


def _parameter_axis(name: str, parameter: Parameter) -> _Axis:
    if isinstance(parameter, Choice):
        count = len(parameter.values)
        places = {value: 0.5 if count == 1 else at / (count - 1) for at, value in enumerate(parameter.values)}
        return _Axis(title=name, places=places)
    return _Axis(title=name, low=parameter.low, high=parameter.high, log=parameter.log, integer=parameter.integer)


def _objective_axis(objective: Objective, values: Sequence[float]) -> _Axis:
    log = needs_log(objective, values)
    low, high = (min(values), max(values)) if log else visible(objective, values)
    return _Axis(title=objective.name, low=low, high=high, log=log)


def _shades(sweep: Sweep, finished: Sequence[TrialRecord]) -> Any:
    """A colour by rank of the first objective: the darker the better, however the values are spread."""
    order = sorted(finished, key=lambda trial: costs(sweep, trial)[0])
    ranks = {trial.number: at for at, trial in enumerate(order)}
    mapping = ScalarMappable(cmap=colormaps["viridis"])
    mapping.set_clim(0, max(len(order) - 1, 1) * 1.15)
    return lambda trial: mapping.to_rgba(ranks[trial.number])


def _title(sweep: Sweep, trials: Sequence[TrialRecord], names: Sequence[str]) -> str:
    kinds = ["the darker the better"]
    if any(trial.state in ("pruned", "stopped") for trial in trials):
        kinds.append("dotted: ended early")
    if not all(trial.feasible for trial in trials):
        kinds.append("red: violates a constraint")
    kinds.append("orange: best" if len(sweep.objectives) == 1 else "orange: beaten by no other one")
    some = "" if len(names) == len(sweep.parameters) else f"{len(names)} of {len(sweep.parameters)} parameters; "
    return some + ", ".join(kinds)


def _text(value: ParameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
