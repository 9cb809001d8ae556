"""W&B's macros for a trial's parameters, spelled as `wandb agent` spells them."""

import json
from collections.abc import Callable, Mapping
from typing import Final

from trainyard.sweeps.sweep import ParameterValue

_Parameters = Mapping[str, ParameterValue]


def _no_equals(parameters: _Parameters) -> list[str]:
    return [word for name, value in parameters.items() for word in (f"--{name}", str(value))]


def _no_boolean_flags(parameters: _Parameters) -> list[str]:
    """`--name` for true, nothing for false."""
    told = {name: value for name, value in parameters.items() if value is not False}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in told.items()]


def _with(prefix: str) -> Callable[[_Parameters], list[str]]:
    return lambda parameters: [f"{prefix}{name}={value}" for name, value in parameters.items()]


MACROS: Final[Mapping[str, Callable[[_Parameters], list[str]]]] = {
    "${args}": _with("--"),
    "${args_no_equals}": _no_equals,
    "${args_no_hyphens}": _with(""),
    "${args_no_boolean_flags}": _no_boolean_flags,
    "${args_append_hydra}": _with("+"),
    "${args_override_hydra}": _with("++"),
    "${args_json}": lambda parameters: [json.dumps(dict(parameters))],
}
"""What a word of the program that is one of these becomes: no word, one, or several."""
