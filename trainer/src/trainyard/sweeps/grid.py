"""The cells of a grid: every value of every parameter with every other."""

import math
from collections.abc import Mapping
from decimal import Decimal

from trainyard.sweeps.sweep import Choice, Parameter, ParameterValue, Range, Sweep


def values_of(parameter: Parameter) -> tuple[ParameterValue, ...]:
    """All values that it can have, in order; `read_sweep` has seen to it that they can be counted."""
    if isinstance(parameter, Choice):
        return parameter.values
    # Decimal, since 0.1 + 2 * 0.1 is no 0.3.
    low, step = Decimal(str(parameter.low)), Decimal(str(_step(parameter)))
    every = (low + number * step for number in range(_count(parameter)))
    return tuple(int(each) if parameter.integer else float(each) for each in every)


def grid(sweep: Sweep) -> Mapping[str, tuple[ParameterValue, ...]]:
    """The values of each parameter that is searched."""
    return {name: values_of(parameter) for name, parameter in sweep.parameters.items()}


def wanted(sweep: Sweep) -> int:
    """How many trials are to end finished or pruned: `trials`, but of a grid no more than it has cells."""
    if sweep.method != "grid":
        assert sweep.trials is not None  # `read_sweep` asks for it
        return sweep.trials
    cells = math.prod(
        len(each.values) if isinstance(each, Choice) else _count(each) for each in sweep.parameters.values()
    )
    return cells if sweep.trials is None else min(sweep.trials, cells)


def _count(parameter: Range) -> int:
    span = Decimal(str(parameter.high)) - Decimal(str(parameter.low))
    return int(span // Decimal(str(_step(parameter)))) + 1


def _step(parameter: Range) -> float:
    assert parameter.integer or parameter.step is not None
    return 1 if parameter.step is None else parameter.step
