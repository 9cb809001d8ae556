"""The same search as W&B's server reads it."""

import shlex
from typing import Any, Final

from trainyard.sweeps.sweep import Choice, Parameter, Range, Sweep

_COMMAND: Final = ("trainyard", "sweep", "trial", "${args_json}")
"""What `wandb agent` starts: it runs the program as the sweep's worker says, so that the server need not know how."""


def wandb_config(sweep: Sweep) -> dict[str, Any]:
    """The configuration of a W&B sweep; names of parameters keep their dots."""
    (objective,) = sweep.objectives
    config: dict[str, Any] = {
        "name": sweep.name,
        "description": f"Trainyard {sweep.key}",
        "method": sweep.method,
        "metric": {"name": objective.name, "goal": objective.goal},
        "parameters": parameters_config(sweep),
        "program": shlex.join(sweep.program),
        "command": list(_COMMAND),
    }
    if sweep.trials is not None:
        config["run_cap"] = sweep.trials
    if (stop := sweep.early_stop) is not None:
        config["early_terminate"] = {"type": "hyperband", "min_iter": stop.min_steps, "eta": stop.reduction}
    return config


def parameters_config(sweep: Sweep) -> dict[str, Any]:
    """What is searched and what is constant, in W&B's words."""
    return {
        **{name: _searched(parameter) for name, parameter in sweep.parameters.items()},
        **{name: {"value": value} for name, value in sweep.constants.items()},
    }


def _searched(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Choice):
        return {"values": list(parameter.values)}
    bounds = {"min": parameter.low, "max": parameter.high}
    step = {} if (q := _q(parameter)) is None else {"q": q}
    return {"distribution": _distribution(parameter, stepped=bool(step)), **bounds, **step}


def _q(parameter: Range) -> float | None:
    """W&B has no whole numbers on a logarithmic scale but as multiples of 1."""
    return 1 if parameter.step is None and parameter.integer and parameter.log else parameter.step


def _distribution(parameter: Range, *, stepped: bool) -> str:
    if parameter.log:
        return "q_log_uniform_values" if stepped else "log_uniform_values"
    if stepped:
        return "q_uniform"
    return "int_uniform" if parameter.integer else "uniform"
