"""What is searched, in Optuna's words."""

from collections.abc import Mapping
from decimal import Decimal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from trainyard.errors import ConfigError
from trainyard.sweeps.sweep import Choice, Parameter, Range, Sweep


def search_space(sweep: Sweep) -> Mapping[str, BaseDistribution]:
    """A distribution for each parameter that is not constant. Raises ConfigError for what Optuna cannot do."""
    problems = [
        f"parameters.{name}: Optuna has no logarithmic range of floats with a step; leave out `q`, or list the values"
        for name, parameter in sweep.parameters.items()
        if isinstance(parameter, Range) and parameter.log and _step(parameter) is not None
    ]
    if problems:
        raise ConfigError(*problems)
    return {name: _distribution(parameter) for name, parameter in sweep.parameters.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    low, high, step = parameter.low, parameter.high, _step(parameter)
    if step is not None:
        # Optuna would do the same, and warn. Decimal, since 0.1 + 2 * 0.1 is no 0.3.
        start, width = Decimal(str(low)), Decimal(str(step))
        high = float(start + (Decimal(str(high)) - start) // width * width)
    if parameter.integer:
        return IntDistribution(int(low), int(high), log=parameter.log, step=int(step or 1))
    return FloatDistribution(low, high, log=parameter.log, step=step)


def _step(parameter: Range) -> float | None:
    """None where it says nothing: each integer is one from the next anyway."""
    return None if parameter.integer and parameter.step == 1 else parameter.step
