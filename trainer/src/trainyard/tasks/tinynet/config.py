"""Every setting of the tinynet task."""

from dataclasses import dataclass, field
from typing import Annotated

from trainyard.checkpoint import CheckpointConfig
from trainyard.config import Choice, Config, Range
from trainyard.tasks import sections
from trainyard.tasks.sections import Experiment, LabelledDataConfig, ModelName


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Config):
    """The network."""

    hidden: Annotated[int, Range(1, 65_536)] = 32
    """Units between the two layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig(LabelledDataConfig):
    """The points: made here, two half moons that interlock, unless `uri` names a table of your own."""

    examples: Annotated[int, Range(100, 1_000_000)] = 1200
    """Points that are made."""
    noise: Annotated[float, Range(0, 2)] = 0.2
    """Standard deviation of their distance from their moon, whose radius is 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(sections.TrackingConfig):
    """Where the run is recorded. Does not change what is trained."""

    experiment: Experiment = "tinynet"
    model: ModelName = "tiny_alignment_model"


@dataclass(frozen=True, kw_only=True, slots=True)
class TinynetConfig(Config):
    """Settings of one training."""

    epochs: Annotated[int, Range(1, 100_000)] = 30
    """Passes over the training examples, at most."""
    patience: Annotated[int, Range(0, 100_000)] = 5
    """Epochs without a lower validation loss after which training stops; 0 = never."""
    batch_size: Annotated[int, Range(1, 65_536)] = 32
    """Examples per optimizer step."""
    lr: Annotated[float, Range(0, 1, above=True)] = 0.01
    """Learning rate of Adam."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """First weights and the order of examples. The same seed gives the same numbers."""
    device: Annotated[str, Choice(("auto", "cpu", "cuda"))] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
