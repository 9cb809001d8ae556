"""What is searched, as the sweep file says it; `trainyard.sweeps.file` reads one."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

ParameterValue = str | bool | int | float
Backend = Literal["optuna", "wandb"]
Goal = Literal["minimize", "maximize"]
Method = Literal["tpe", "bayes", "random", "grid", "cmaes", "nsga2"]
METHODS: Final[Mapping[Backend, tuple[Method, ...]]] = {
    "optuna": ("tpe", "bayes", "random", "grid", "cmaes", "nsga2"),
    "wandb": ("bayes", "random", "grid"),
}
"""What each backend can do; `bayes` is W&B's word, and TPE in Optuna."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A metric that the trials' runs record; its last value is the trial's."""

    name: str
    goal: Goal = "minimize"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of several values."""

    values: tuple[ParameterValue, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A number between two, both included."""

    low: float
    high: float
    integer: bool = False
    log: bool = False
    """Whether orders of magnitude are equally likely, rather than values."""
    step: float | None = None
    """Distance of neighbouring values; None: any number, or any integer."""


Parameter = Choice | Range


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStop:
    """When a trial that does worse than the others is ended."""

    type: Literal["hyperband", "asha", "median"]
    min_steps: int = 1
    """Steps of the metric that every trial gets."""
    max_steps: int | None = None
    """Steps of a whole trial; None: not known."""
    reduction: int = 3
    """One of so many survives each round of hyperband and asha."""
    warmup_trials: int = 5
    """Trials that median lets finish before it ends any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """A metric that must not exceed `max`, or fall below `min`, for a trial to count as usable."""

    metric: str
    max: float | None = None
    min: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A sweep file, read and checked."""

    name: str
    program: tuple[str, ...]
    """What a trial runs; `{parameter}` in a word is replaced by its value."""
    objectives: tuple[Objective, ...]
    parameters: Mapping[str, Parameter]
    constants: Mapping[str, ParameterValue]
    """Parameters with one value: handed to each trial, not searched."""
    backend: Backend = "optuna"
    method: Method = "tpe"
    trials: int | None = None
    """How many are to end finished or pruned; None: all cells of the grid."""
    experiment: str = "default"
    """Where the parent run is; trials are where their program puts them."""
    early_stop: EarlyStop | None = None
    constraints: tuple[Constraint, ...] = ()
    seed: int = 0
    max_failed: int = 3
    """Trials of one worker that may fail in a row before it gives up."""
    heartbeat_s: float = 10.0
    """Optuna: seconds between two signs of life of a trial; after three that are missing it is given to another worker."""
    wandb_entity: str | None = None
    wandb_project: str | None = None

    @property
    def key(self) -> str:
        """Name of the study, and tag `trainyard.sweep_id`: the same for the same search, however many trials it is to have."""
        searched: dict[str, Any] = asdict(self)
        for field in ("trials", "max_failed", "heartbeat_s"):
            del searched[field]
        return f"{self.name}-{hashlib.sha256(json.dumps(searched, sort_keys=True).encode()).hexdigest()[:8]}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics that the sweep needs of a trial."""
        return tuple(
            dict.fromkeys([*(each.name for each in self.objectives), *(each.metric for each in self.constraints)])
        )
