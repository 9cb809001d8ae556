"""Every setting of the digits task."""

from dataclasses import dataclass, field
from typing import Annotated

from trainyard.config import Choice, Config, Range, Text
from trainyard.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Config):
    """The network."""

    channels: Annotated[int, Range(1, 512)] = 32
    """Channels of the first convolution; the second has twice as many."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.2
    """Share of activations dropped before the last layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig(Config):
    """How the 1,797 images are divided. Every class has its share in each part."""

    validation_fraction: Annotated[float, Range(0.05, 0.5)] = 0.15
    """Share of images measured after each epoch."""
    test_fraction: Annotated[float, Range(0.05, 0.5)] = 0.15
    """Share of images measured once, at the end."""
    split_seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Which images go where; the same for each `seed`, so that runs can be compared."""

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        total = self.validation_fraction + self.test_fraction
        if total > 0.8:
            raise ConfigError(
                f"data.validation_fraction + data.test_fraction is {total:g}: must be at most 0.8, the rest is trained on"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(Config):
    """Where the run is recorded. Does not change what is trained."""

    experiment: Annotated[str, Text(r"\S(.{0,198}\S)?", "a name of 1 to 200 characters")] = "digits"
    """MLflow experiment; made if it does not exist."""
    model: Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", "letters, digits, '.', '_' and '-'")] = "digits"
    """Name in the model registry."""
    variant: Annotated[str, Text(r"[a-z0-9][a-z0-9-]{0,62}", "lower-case letters, digits and '-'")] = "default"
    """Last part of the run's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitsConfig(Config):
    """Settings of one training."""

    epochs: Annotated[int, Range(1, 10_000)] = 15
    """Passes over the training images."""
    batch_size: Annotated[int, Range(1, 2048)] = 32
    """Images per optimizer step."""
    lr: Annotated[float, Range(0, 1, above=True)] = 0.005
    """Peak learning rate of AdamW; falls to zero along a cosine."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.01
    """AdamW's weight decay."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """First weights, dropout and the order of images. The same seed gives the same numbers."""
    device: Annotated[str, Choice(("auto", "cpu", "cuda"))] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
