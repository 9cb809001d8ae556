"""The section that every task has."""

from dataclasses import dataclass
from typing import Annotated

from trainyard.config.fields import Config, Text


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(Config):
    """Where the run is recorded. Does not change what is trained.

    A task says its own names: `tracking: TrackingConfig = field(default_factory=partial(TrackingConfig, experiment=..., model=...))`.
    """

    experiment: Annotated[str, Text(r"\S(.{0,198}\S)?", "a name of 1 to 200 characters")]
    """MLflow experiment; made if it does not exist."""
    model: Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", "letters, digits, '.', '_' and '-'")]
    """Name in the model registry."""
    variant: Annotated[str, Text(r"[a-z0-9][a-z0-9-]{0,62}", "lower-case letters, digits and '-'")] = "default"
    """Last part of the run's name."""
