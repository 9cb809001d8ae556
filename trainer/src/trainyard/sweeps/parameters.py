"""The section `parameters`: what is searched, in W&B's words."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from trainyard.sweeps.document import Entry, Section, did_you_mean, items_of
from trainyard.sweeps.sweep import Choice, Parameter, ParameterValue, Range

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SUCH_AS: Final = "{values: [1, 2]}, {min: 0.1, max: 0.5} or {value: 3}"
_NOT_HERE: Final = {
    "log_uniform": "W&B's log_uniform takes exponents; write log_uniform_values, with the values themselves",
    "q_log_uniform": "W&B's q_log_uniform takes exponents; write q_log_uniform_values, with the values themselves",
    **dict.fromkeys(
        (
            "normal",
            "q_normal",
            "log_normal",
            "q_log_normal",
            "beta",
            "q_beta",
            "inv_log_uniform",
            "inv_log_uniform_values",
        ),
        "has no bounds that both backends know; write uniform or log_uniform_values, with min and max",
    ),
    "categorical_w_probabilities": "Optuna has no probabilities of values; write categorical",
}


@dataclass(slots=True)
class Parameters:
    """What the section says."""

    searched: dict[str, Parameter] = field(default_factory=dict)
    constants: dict[str, ParameterValue] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    """Where each one stands."""


def read_parameters(section: Section, prefix: str = "", into: Parameters | None = None) -> Parameters:
    """Nested `parameters` get names with dots: `model.channels`. What is wrong goes to the section's problems."""
    found = Parameters() if into is None else into
    for key, entry in section.every.items():
        name = f"{prefix}{key}"
        if not _NAME.fullmatch(name):
            section.problems.append(
                entry.wrong(f"{name} must begin with a letter, then letters, digits, '.', '_' and '-'")
            )
            continue
        if name in found.entries:
            section.problems.append(
                entry.wrong(f"{name} is said already at {found.entries[name].place}; keep one of them")
            )
            continue
        own = Section.of(entry, section.problems, _SUCH_AS)
        if own is None:
            continue
        nested = own.get("parameters")
        if nested is not None:
            below = Section.of(nested, section.problems, "{channels: {values: [8, 16]}}")
            if below is not None:
                read_parameters(below, f"{name}.", found)
            own.finish("a parameter with parameters")
            continue
        found.entries[name] = entry
        _read(name, own, found)
    return found


def _read(name: str, own: Section, found: Parameters) -> None:
    before = len(own.problems)
    own.refuse({"probabilities": "Optuna has no probabilities of values; leave them out"})
    distribution = _distribution(own)
    if distribution is None:
        return
    own.get("distribution")
    parameter = _READERS[distribution](own)
    own.finish(f"a parameter that is {distribution}")
    if parameter is None or len(own.problems) > before:
        return
    if isinstance(parameter, Choice) and len(parameter.values) == 1:
        found.constants[name] = parameter.values[0]
    elif isinstance(parameter, Range) and parameter.low == parameter.high:
        found.constants[name] = parameter.low
    else:
        found.searched[name] = parameter


def _distribution(own: Section) -> str | None:
    """As said, or what W&B takes it for."""
    entry = own.keys.get("distribution")
    if entry is not None:
        if entry.value in _READERS:
            return str(entry.value)
        reason = _NOT_HERE.get(entry.text) or f"must be {' or '.join(_READERS)}{did_you_mean(entry.text, _READERS)}"
        own.problems.append(entry.wrong(reason))
        return None
    if "values" in own.keys:
        return "categorical"
    if "value" in own.keys:
        return "constant"
    if "min" in own.keys or "max" in own.keys:
        bounds = [each.value for key in ("min", "max") if (each := own.keys.get(key))]
        return "int_uniform" if all(type(each) is int for each in bounds) else "uniform"
    own.problems.append(own.entry.wrong(f"says no value; it must be such as {_SUCH_AS}"))
    return None


def _categorical(own: Section) -> Choice | None:
    entry = own.get("values")
    if entry is None:
        own.missing("values", "a list of values")
        return None
    items = items_of(entry)
    if not items:
        own.problems.append(entry.wrong("must be a list of one value or more"))
        return None
    values = [_value(each, own.problems) for each in items]
    for index, each in enumerate(items):
        # 1, 1.0 and true are equal in Python, and nowhere else.
        if any(type(each.value) is type(other.value) and each.value == other.value for other in items[:index]):
            own.problems.append(each.wrong("is there twice"))
    return Choice(values=tuple(value for value in values if value is not None))


def _constant(own: Section) -> Choice | None:
    entry = own.get("value")
    if entry is None:
        own.missing("value", "a text, a number, true or false")
        return None
    value = _value(entry, own.problems)
    return None if value is None else Choice(values=(value,))


def _value(entry: Entry, problems: list[str]) -> ParameterValue | None:
    value = entry.value
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    problems.append(entry.wrong("must be a text, a number, true or false"))
    return None


def _uniform(own: Section) -> Range | None:
    bounds = _bounds(own)
    return None if bounds is None else Range(low=float(bounds[0]), high=float(bounds[1]))


def _log_uniform_values(own: Section) -> Range | None:
    bounds = _bounds(own, log=True)
    return None if bounds is None else Range(low=float(bounds[0]), high=float(bounds[1]), log=True)


def _int_uniform(own: Section) -> Range | None:
    bounds = _bounds(own)
    if bounds is None:
        return None
    fractions = [own.keys[key] for key in ("min", "max") if type(own.keys[key].value) is not int]
    own.problems.extend(each.wrong("must be a whole number") for each in fractions)
    return None if fractions else Range(low=bounds[0], high=bounds[1], integer=True)


def _q_uniform(own: Section) -> Range | None:
    return _stepped(own, log=False)


def _q_log_uniform_values(own: Section) -> Range | None:
    return _stepped(own, log=True)


def _stepped(own: Section, *, log: bool) -> Range | None:
    """W&B rounds to multiples of q, Optuna counts from the lower bound: of bounds that are multiples both make the same values."""
    q = own.number("q", above=0) or (None if "q" in own.keys else 1)
    bounds = _bounds(own, log=log)
    if bounds is None or q is None:
        return None
    step = Decimal(str(q))
    low = (Decimal(str(bounds[0])) / step).to_integral_value(ROUND_CEILING) * step
    high = (Decimal(str(bounds[1])) / step).to_integral_value(ROUND_FLOOR) * step
    if low > high:
        own.problems.append(own.entry.wrong(f"there is no multiple of q={q:g} from min to max"))
        return None
    if all(type(each) is int for each in (q, *bounds)):
        return Range(low=int(low), high=int(high), integer=True, log=log, step=None if q == 1 else int(q))
    return Range(low=float(low), high=float(high), log=log, step=float(q))


def _bounds(own: Section, *, log: bool = False) -> tuple[float, float] | None:
    """`min` and `max`, in this order."""
    low, high = own.number("min"), own.number("max")
    for key in ("min", "max"):
        if key not in own.keys:
            own.missing(key, "a number")
    if low is None or high is None:
        return None
    if log and low <= 0:
        own.problems.append(own.keys["min"].wrong("must be above 0, since the range is logarithmic"))
    if low > high:
        own.problems.append(own.keys["min"].wrong(f"must be at most max, which is {own.keys['max'].text}"))
    return None if (log and low <= 0) or low > high else (low, high)


_READERS: Final[Mapping[str, Callable[[Section], Parameter | None]]] = {
    "categorical": _categorical,
    "constant": _constant,
    "uniform": _uniform,
    "int_uniform": _int_uniform,
    "log_uniform_values": _log_uniform_values,
    "q_uniform": _q_uniform,
    "q_log_uniform_values": _q_log_uniform_values,
}
