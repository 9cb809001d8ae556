"""What the pictures of a sweep have in common."""

from collections.abc import Sequence
from statistics import median
from typing import Any, Final, Literal

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from trainyard.sweeps.sweep import Objective

FINISHED: Final = "#2b6cb0"
BEST: Final = "#e8590c"
PRUNED: Final = "#9aa5b1"
FAILED: Final = "#c92a2a"
_SPREAD: Final = 20.0
"""Largest by smallest value from which a logarithmic axis shows more."""
_FAR: Final = 5.0
"""A value so many times as far from the best one as the middle one is leaves no room for the others."""
_PADDING: Final = 0.06


def shortened(text: str, limit: int = 24) -> str:
    """The end of a long text: of dotted names that is what differs."""
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


def axis_label(objective: Objective) -> str:
    """Name and which way is better."""
    return f"{shortened(objective.name)} ({'lower' if objective.goal == 'minimize' else 'higher'} is better)"


def needs_log(objective: Objective, values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows more: for losses and the like."""
    return bool(values) and objective.goal == "minimize" and min(values) > 0 and max(values) / min(values) >= _SPREAD


def scale(axes: Any, which: Literal["x", "y"], objective: Objective, values: Sequence[float]) -> None:
    """Let the axis show these values of the objective; a few that are far worse than the rest stay outside, and it says so."""
    label = axis_label(objective)
    if needs_log(objective, values):
        getattr(axes, f"set_{which}scale")("log")
        _readable(getattr(axes, f"{which}axis"))
    elif values:
        low, high = visible(objective, values)
        if outside := sum(not low <= value <= high for value in values):
            padding = _PADDING * (high - low)
            getattr(axes, f"set_{which}lim")(low - padding, high + padding)
            label += f", {outside} far worse not shown"
    getattr(axes, f"set_{which}label")(label)
    axes.grid(alpha=0.3)


def visible(objective: Objective, values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest of them, without those so bad that the others would be hard to tell apart."""
    sign = 1 if objective.goal == "minimize" else -1
    costs = sorted(sign * value for value in values)
    edge = costs[0] + _FAR * (median(costs) - costs[0])
    inside = [sign * cost for cost in costs if cost <= edge] if edge > costs[0] else values
    return min(inside), max(inside)


def ticks(low: float, high: float, *, log: bool, integer: bool = False) -> list[float]:
    """Round numbers from `low` to `high`; these two where there are hardly any."""
    locator = LogLocator(subs=_subdivisions(low, high)) if log else MaxNLocator(5, integer=integer)
    inside = [float(value) for value in locator.tick_values(low, high) if low <= value <= high]
    return inside if len(inside) > 1 else [low, high]


def number_text(value: float) -> str:
    """Three or four digits."""
    return f"{value:.4g}"


def _readable(axis: Any) -> None:
    """0.2, 0.5, 1 rather than powers of ten with nothing in between."""
    axis.set_major_locator(LogLocator(subs=_subdivisions(*axis.get_view_interval())))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
    axis.set_minor_formatter(NullFormatter())


def _subdivisions(low: float, high: float) -> tuple[float, ...]:
    return (1.0,) if low > 0 and high / low > 1000 else (1.0, 2.0, 5.0)
