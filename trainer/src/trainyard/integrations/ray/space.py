"""Tune's search space in the terms of a sweep's report."""

from collections.abc import Iterator, Mapping
from typing import Any

from ray.tune.search.sample import Categorical, Float, Integer, LogUniform, Quantized

from trainyard.sweeps.sweep import Choice, Parameter, ParameterValue, Range


def parameters(space: Mapping[str, Any]) -> dict[str, Parameter]:
    """What is searched, nested names with dots; without what has no bounds, such as a function that draws."""
    return {name: found for name, value in flat(space).items() if (found := _parameter(value)) is not None}


def constants(space: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """What is the same for every trial."""
    return {name: value for name, value in flat(space).items() if isinstance(value, str | bool | int | float)}


def flat(space: Mapping[str, Any]) -> dict[str, Any]:
    """Nested names with dots; also for the values of one trial."""
    return dict(_walk("", space))


def _walk(above: str, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in space.items():
        if isinstance(value, Mapping) and "grid_search" not in value:
            yield from _walk(f"{above}{name}.", value)
        else:
            yield f"{above}{name}", value


def _parameter(value: Any) -> Parameter | None:
    if isinstance(value, Mapping):
        return Choice(values=tuple(value["grid_search"]))
    if isinstance(value, Categorical):
        return Choice(values=tuple(value.categories))
    if not isinstance(value, Float | Integer):
        return None
    sampler, step = value.get_sampler(), None
    if isinstance(sampler, Quantized):
        sampler, step = sampler.get_sampler(), sampler.q
    integer = isinstance(value, Integer)
    return Range(
        low=value.lower,
        # Tune's upper end of integers is the first that is not drawn, but for those with a step.
        high=value.upper - 1 if integer and step is None else value.upper,
        integer=integer,
        log=isinstance(sampler, LogUniform),
        step=step,
    )
