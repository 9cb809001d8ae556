"""What became of a trial, whichever backend proposed it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from trainyard.sweeps.sweep import ParameterValue

State = Literal["waiting", "running", "finished", "pruned", "failed", "stopped"]
"""`waiting`: interrupted, to be continued. `pruned`: ended early since others did better. `stopped`: by a person, at the server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """A trial with all its attempts."""

    number: str
    """Of the first attempt: Optuna's number, or the id of W&B's run; tag `trainyard.trial`."""
    state: State
    parameters: Mapping[str, ParameterValue]
    values: tuple[float, ...] = ()
    """Of the objectives, in their order; empty where there are none yet."""
    history: Mapping[int, float] = field(default_factory=dict)
    """First objective by step, as far as the backend was told."""
    feasible: bool = True
    """Whether all constraints hold."""
    attempts: int = 1
    began: datetime | None = None
    ended: datetime | None = None
    run_id: str | None = None
    """In MLflow."""
    reason: str = ""
    """Why it failed."""
