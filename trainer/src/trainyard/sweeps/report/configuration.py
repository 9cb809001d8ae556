"""A sweep as a sweep file, and as parameters of its parent run."""

from typing import Any, Final

from trainyard.sweeps.sweep import EarlyStop, Sweep
from trainyard.sweeps.wandb_file import parameters_config
from trainyard.tracking.params import flatten

_MAY_CHANGE: Final = ("trials", "max_failed", "heartbeat_s")
"""Between two starts of the same sweep; a parameter in MLflow never changes."""


def sweep_file(sweep: Sweep) -> dict[str, Any]:
    """What `trainyard sweep run` reads from YAML, with every default spelt out."""
    metrics = [{"name": each.name, "goal": each.goal} for each in sweep.objectives]
    content = {
        "name": sweep.name,
        "backend": sweep.backend,
        "method": sweep.method,
        "metric": metrics[0] if len(metrics) == 1 else metrics,
        "parameters": parameters_config(sweep),
        "early_terminate": sweep.early_stop and _early_stop(sweep.early_stop),
        "constraints": [
            _present({"metric": each.metric, "max": each.max, "min": each.min}) for each in sweep.constraints
        ],
        "program": list(sweep.program),
        "trials": sweep.trials,
        "experiment": sweep.experiment,
        "seed": sweep.seed,
        "max_failed": sweep.max_failed,
        "heartbeat_s": sweep.heartbeat_s,
        "entity": sweep.wandb_entity,
        "project": sweep.wandb_project,
    }
    return {name: value for name, value in content.items() if value not in (None, [])}


def fixed_settings(sweep: Sweep) -> dict[str, str]:
    """The same, flat, without what may be another the next time."""
    return flatten({name: value for name, value in sweep_file(sweep).items() if name not in _MAY_CHANGE})


def _early_stop(rule: EarlyStop) -> dict[str, Any]:
    if rule.type == "median":
        return {"type": rule.type, "min_iter": rule.min_steps, "warmup_trials": rule.warmup_trials}
    rungs = {"min_iter": rule.min_steps, "max_iter": rule.max_steps, "eta": rule.reduction}
    return {"type": rule.type, **_present(rungs)}


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
