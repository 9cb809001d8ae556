"""Every setting of the text task."""

from dataclasses import dataclass, field
from typing import Annotated

from trainyard.checkpoint import CheckpointConfig
from trainyard.config import Choice, Config, Range
from trainyard.errors import ConfigError
from trainyard.tasks import sections
from trainyard.tasks.sections import Experiment, LabelledDataConfig, ModelName


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Config):
    """The network: BERT's shape, small."""

    layers: Annotated[int, Range(1, 48)] = 2
    """Blocks of attention and feed-forward."""
    heads: Annotated[int, Range(1, 64)] = 4
    """Heads of each attention; they divide the width among them."""
    width: Annotated[int, Range(8, 4096)] = 64
    """Length of the vector that stands for one word; the feed-forward is four times as wide."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.2
    """Share of activations and of attention dropped in training."""

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        if self.width % self.heads:
            raise ConfigError(f"model.width={self.width}: must be a multiple of model.heads, which is {self.heads}")


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyConfig(Config):
    """Words, and how many of them the model sees."""

    size: Annotated[int, Range(16, 1_000_000)] = 4000
    """Words that are known, at most: the most frequent ones of the training texts."""
    least_count: Annotated[int, Range(1, 1_000_000)] = 2
    """How often a word has to be there to be known."""
    length: Annotated[int, Range(4, 4096)] = 40
    """Words of a text that are read; what follows is cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(sections.TrackingConfig):
    """Where the run is recorded. Does not change what is trained."""

    experiment: Experiment = "text"
    model: ModelName = "tiny_bert"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig(Config):
    """Settings of one training."""

    epochs: Annotated[int, Range(1, 10_000)] = 6
    """Passes over the training texts."""
    batch_size: Annotated[int, Range(1, 4096)] = 32
    """Texts per optimizer step."""
    lr: Annotated[float, Range(0, 1, above=True)] = 0.002
    """Highest learning rate of AdamW: rises to it along a line, and falls to zero along another."""
    warmup_fraction: Annotated[float, Range(0, 1)] = 0.1
    """Share of all steps during which the learning rate rises."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.01
    """AdamW's weight decay; biases and the weights of layer norms do not decay."""
    clip_norm: Annotated[float, Range(0, 1000, above=True)] = 1.0
    """Longest gradient, as a Euclidean norm over all parameters; a longer one is shortened to it."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """First weights, dropout and the order of texts. The same seed gives the same numbers."""
    device: Annotated[str, Choice(("auto", "cpu", "cuda"))] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    model: ModelConfig = field(default_factory=ModelConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
