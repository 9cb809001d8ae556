"""Times and what is made of them: medians, since the machine does other things too."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Times:
    """Of many calls, in microseconds."""

    median: float
    p99: float

    def __str__(self) -> str:
        return f"{figure(self.median)} / {figure(self.p99)} us"


def each_call(call: Callable[[int], object], steps: range) -> list[int]:
    """Nanoseconds of each `call(step)`, one right after the other; about 50 of them are the clock's own."""
    clock = time.perf_counter_ns
    taken = []
    for step in steps:
        began = clock()
        call(step)
        taken.append(clock() - began)
    return taken


def times(nanoseconds: Sequence[int]) -> Times:
    """Of the calls of one round."""
    return Times(median(nanoseconds) / 1000, quantiles(nanoseconds, n=100, method="inclusive")[98] / 1000)


def typical(rounds: Sequence[Times]) -> Times:
    """The median round, for each of the figures."""
    return Times(median(each.median for each in rounds), median(each.p99 for each in rounds))


def median_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The median, and its standard error by the spread of the middle half: one bad second of the machine does not widen it."""
    low, _, high = quantiles(values, n=4)
    return median(values), 1.2533 * (high - low) / 1.349 / len(values) ** 0.5


def figure(value: float) -> str:
    """Three digits that mean something: 0.53, 7.31, 84.2, 7,310."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"
