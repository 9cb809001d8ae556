"""Every setting of the lora task."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from trainyard.config import Config, Range, Text
from trainyard.tasks import sections
from trainyard.tasks.lm.config import LoopConfig, OptimizerConfig
from trainyard.tasks.sections import Experiment, ModelName


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseConfig(Config):
    """The model that is adapted."""

    model: Annotated[str, Text(r"\S(.*\S)?", "models:/NAME@ALIAS, models:/NAME/VERSION or a directory")] = (
        "models:/gpt@challenger"
    )
    """A model of the task lm: models:/NAME@ALIAS or models:/NAME/VERSION in the registry, or a directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig(Config):
    """LoRA (Hu et al. 2021): beside each chosen matrix the product of two small ones is learned."""

    rank: Annotated[int, Range(1, 1024)] = 8
    """Columns of the first small matrix, rows of the second."""
    alpha: Annotated[float, Range(0, 10_000, above=True)] = 16.0
    """The product is multiplied by alpha / rank."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of what comes into the adapter dropped in training."""
    target_modules: Annotated[str, Text(r"[\w.]+(,[\w.]+)*", "names of linear layers, separated by commas")] = (
        "qkv,out,up,down"
    )
    """Which linear layers get an adapter: the ends of their names, separated by commas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig(sections.TrackingConfig):
    """Where the run is recorded. Does not change what is trained."""

    experiment: Experiment = "lora"
    model: ModelName = "gpt-lora"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig(LoopConfig):
    """Settings of one training."""

    steps: Annotated[int, Range(1, 10_000_000)] = 100
    """Optimizer steps."""
    base: BaseConfig = field(default_factory=BaseConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    # Far fewer parameters than the base has, beginning at zero: they can take, and need, a higher rate and no decay.
    optimizer: OptimizerConfig = field(default_factory=partial(OptimizerConfig, lr=0.005, weight_decay=0.0))
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
