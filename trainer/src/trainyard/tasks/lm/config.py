"""Every setting of the lm task, and those that it shares with lora."""

from dataclasses import dataclass, field
from typing import Annotated

from trainyard.checkpoint import CheckpointConfig
from trainyard.config import Choice, Config, Range, Text
from trainyard.errors import ConfigError
from trainyard.tasks import sections
from trainyard.tasks.sections import Experiment, ModelName


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Config):
    """The network."""

    layers: Annotated[int, Range(1, 96)] = 3
    """Blocks of attention and feed-forward."""
    heads: Annotated[int, Range(1, 128)] = 4
    """Heads of each attention; they divide the width among them."""
    width: Annotated[int, Range(8, 16_384)] = 128
    """Length of the vector that stands for one byte."""
    context: Annotated[int, Range(8, 8192)] = 64
    """Bytes that the model sees at once."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of activations dropped in training."""

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        if self.width % self.heads:
            raise ConfigError(f"model.width={self.width}: must be a multiple of model.heads, which is {self.heads}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig(Config):
    """AdamW; its learning rate rises along a line and falls along a cosine."""

    lr: Annotated[float, Range(0, 1, above=True)] = 0.004
    """Highest learning rate."""
    warmup_steps: Annotated[int, Range(0, 1_000_000)] = 20
    """Steps until the learning rate is highest; a shorter training never gets there."""
    min_lr_share: Annotated[float, Range(0, 1)] = 0.1
    """What the learning rate falls to at the last step, as a share of the highest."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.1
    """Of matrices; norms, biases and embeddings do not decay."""
    beta1: Annotated[float, Range(0, 0.999)] = 0.9
    """Share of the old mean in AdamW's mean of gradients."""
    beta2: Annotated[float, Range(0, 0.9999)] = 0.95
    """The same for squared gradients."""
    clip: Annotated[float, Range(0, 1_000)] = 1.0
    """Longest gradient, over all parameters; a longer one is shortened. 0 shortens none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig(Config):
    """The text."""

    uri: Annotated[str, Text(r"(\S(.*\S)?)?", "a file, a directory or s3://BUCKET/KEY")] = ""
    """Your own text: a file, a directory or s3://; without it one that comes with Python."""
    validation_fraction: Annotated[float, Range(0.001, 0.5)] = 0.1
    """Share of the text, its end, that is not trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig(Config):
    """How any language model is trained: what lm and lora share."""

    steps: Annotated[int, Range(1, 10_000_000)] = 500
    """Optimizer steps."""
    batch_size: Annotated[int, Range(1, 65_536)] = 16
    """Sequences of `context` bytes in a step, over all processes."""
    accumulate: Annotated[int, Range(1, 1024)] = 1
    """Parts that each process divides its share of a step into, for less memory; the result is the same."""
    evaluate_every: Annotated[int, Range(1, 1_000_000)] = 50
    """Steps between two measurements of the validation loss."""
    precision: Annotated[str, Choice(("auto", "float32", "bfloat16"))] = "auto"
    """Of matrix products; auto takes bfloat16 on a GPU that has it. Weights are float32 always."""
    compile: Annotated[str, Choice(("auto", "true", "false"))] = "auto"
    """Whether to use torch.compile; auto does on a GPU where a C compiler is there, which Triton needs."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """First weights, dropout and the order of sequences. The same seed gives the same numbers."""
    device: Annotated[str, Choice(("auto", "cpu", "cuda"))] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(sections.TrackingConfig):
    """Where the run is recorded. Does not change what is trained."""

    experiment: Experiment = "lm"
    model: ModelName = "gpt"


@dataclass(frozen=True, kw_only=True, slots=True)
class LmConfig(LoopConfig):
    """Settings of one training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
