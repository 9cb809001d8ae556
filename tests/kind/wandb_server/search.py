"""What a sweep tries next, and which of its runs it gives up: as W&B's own search does it, in simple."""

import itertools
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

Parameter = Mapping[str, Any]
Values = dict[str, Any]

TRIED_AT_RANDOM = 4
"""Before `bayes` begins to look near the best."""
_NEAR = 0.15
"""How far around the best, as a part of a parameter's whole range."""


def cells(config: Mapping[str, Any]) -> list[Values]:
    """All of a grid, in W&B's order: the last parameter changes fastest."""
    names = sorted(config["parameters"])
    choices = [_grid_values(name, config["parameters"][name]) for name in names]
    return [dict(zip(names, cell, strict=True)) for cell in itertools.product(*choices)]


def propose(config: Mapping[str, Any], done: Sequence[tuple[Values, float]], dice: random.Random) -> Values:
    """Parameters of the next run of a random or bayes sweep; `done` has the metrics of finished ones, less is better."""
    parameters = config["parameters"]
    if config["method"] == "bayes" and len(done) >= TRIED_AT_RANDOM:
        best = min(done, key=lambda each: each[1])[0]
        return {name: _near(parameter, best[name], dice) for name, parameter in sorted(parameters.items())}
    return {name: _at(parameter, dice.random()) for name, parameter in sorted(parameters.items())}


def metric_history(lines: Iterable[str | None], metric: Mapping[str, Any]) -> list[float]:
    """Each value of the metric, with the sign at which less is better."""
    sign = -1.0 if metric.get("goal") == "maximize" else 1.0
    rows = (json.loads(line) for line in lines if line is not None)
    return [sign * float(row[metric["name"]]) for row in rows if metric["name"] in row]


def is_hopeless(mine: Sequence[float], others: Sequence[Sequence[float]], rule: Mapping[str, Any]) -> bool:
    """Hyperband: whether a run is not among the best 1/eta at the last band that it has reached."""
    eta = float(rule.get("eta", 3))
    reached = [band for band in _bands(rule, eta) if band <= len(mine)]
    if not reached:
        return False
    band = reached[-1]
    rivals = sorted([min(each[:band]) for each in others if len(each) >= band] + [min(mine[:band])])
    return min(mine[:band]) > rivals[max(0, math.ceil(len(rivals) / eta) - 1)]


def _bands(rule: Mapping[str, Any], eta: float) -> list[int]:
    if "min_iter" in rule:
        return [round(rule["min_iter"] * eta**power) for power in range(20)]
    return sorted(round(rule["max_iter"] / eta**power) for power in range(1, int(rule.get("s", 1)) + 1))


def _grid_values(name: str, parameter: Parameter) -> list[Any]:
    if "value" in parameter:
        return [parameter["value"]]
    if "values" in parameter:
        return list(parameter["values"])
    if _distribution(parameter) == "int_uniform":
        return list(range(parameter["min"], parameter["max"] + 1))
    if _distribution(parameter) == "q_uniform":
        step = parameter.get("q", 1)
        return [
            parameter["min"] + step * i for i in range(int((parameter["max"] - parameter["min"]) / step + 1e-9) + 1)
        ]
    raise LookupError(f"parameter {name} has no values that a grid could have")


def _distribution(parameter: Parameter) -> str:
    if "distribution" in parameter:
        return str(parameter["distribution"])
    if "value" in parameter:
        return "constant"
    if "values" in parameter:
        return "categorical"
    whole = isinstance(parameter["min"], int) and isinstance(parameter["max"], int)
    return "int_uniform" if whole else "uniform"


def _at(parameter: Parameter, part: float) -> Any:
    """The value at a part from 0 to 1 of the parameter's range."""
    kind = _distribution(parameter)
    if kind == "constant":
        return parameter["value"]
    if kind == "categorical":
        return parameter["values"][min(int(part * len(parameter["values"])), len(parameter["values"]) - 1)]
    if kind.removeprefix("q_") == "normal":
        value = NormalDist(parameter["mu"], parameter["sigma"]).inv_cdf(min(max(part, 1e-6), 1 - 1e-6))
        return _stepped(value, parameter, kind)
    low, high = parameter["min"], parameter["max"]
    if kind == "int_uniform":
        return min(low + int(part * (high - low + 1)), high)
    if "log_uniform" in kind:
        ends = (math.log(low), math.log(high)) if kind.endswith("_values") else (low, high)
        return _stepped(math.exp(ends[0] + part * (ends[1] - ends[0])), parameter, kind)
    if kind.removeprefix("q_") == "uniform":
        return _stepped(low + part * (high - low), parameter, kind)
    raise LookupError(f"the stand-in knows no distribution {kind}")


def _stepped(value: float, parameter: Parameter, kind: str) -> float:
    step = parameter.get("q", 1)
    return round(value / step) * step if kind.startswith("q_") else value


def _near(parameter: Parameter, best: Any, dice: random.Random) -> Any:
    """A value close to `best`: found by where in the range it is."""
    if _distribution(parameter) in ("constant", "categorical"):
        return best if dice.random() < 1 - _NEAR else _at(parameter, dice.random())
    grid = [part / 200 for part in range(201)]
    where = min(grid, key=lambda part: abs(_at(parameter, part) - best))
    return _at(parameter, min(max(dice.gauss(where, _NEAR), 0.0), 1.0))
