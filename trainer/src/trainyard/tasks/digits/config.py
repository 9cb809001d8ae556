"""Every setting of the digits task."""

from dataclasses import dataclass, field
from typing import Annotated

from trainyard.checkpoint import CheckpointConfig
from trainyard.config import Choice, Config, Range
from trainyard.tasks import sections
from trainyard.tasks.sections import Experiment, LabelledDataConfig, ModelName


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Config):
    """The network."""

    channels: Annotated[int, Range(1, 512)] = 32
    """Channels of the first convolution; the second has twice as many."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.2
    """Share of activations dropped before the last layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(sections.TrackingConfig):
    """Where the run is recorded. Does not change what is trained."""

    experiment: Experiment = "digits"
    model: ModelName = "digits"


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
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
