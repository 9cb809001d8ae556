"""Sections of a configuration that several tasks have: what each field means is said once."""

from dataclasses import dataclass
from typing import Annotated

from trainyard.config import Config, Range, Text
from trainyard.errors import ConfigError

Experiment = Annotated[str, Text(r"\S(.{0,198}\S)?", "a name of 1 to 200 characters")]
ModelName = Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", "letters, digits, '.', '_' and '-'")]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(Config):
    """Where the run is recorded. Does not change what is trained."""

    experiment: Experiment
    """MLflow experiment; made if it does not exist."""
    model: ModelName
    """Name in the model registry."""
    variant: Annotated[str, Text(r"[a-z0-9][a-z0-9-]{0,62}", "lower-case letters, digits and '-'")] = "default"
    """Last part of the run's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledDataConfig(Config):
    """Where the examples come from, and how they are divided. Every class has its share in each part."""

    uri: Annotated[str, Text(r"(\S(.*\S)?)?", "a file, a directory or s3://BUCKET/KEY")] = ""
    """Your own examples: a file, a directory or s3://BUCKET/KEY; empty takes the task's."""
    validation_fraction: Annotated[float, Range(0.05, 0.5)] = 0.15
    """Share of the examples that is measured after each epoch."""
    test_fraction: Annotated[float, Range(0.05, 0.5)] = 0.15
    """Share of the examples that is measured once, at the end."""
    split_seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Which examples go where; the same for each `seed`, so that runs can be compared."""

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        total = self.validation_fraction + self.test_fraction
        if total > 0.8:
            raise ConfigError(
                f"data.validation_fraction + data.test_fraction is {total:g}: must be at most 0.8, the rest is trained on"
            )
