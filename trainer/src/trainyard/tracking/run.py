"""What training may ask of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredModel:
    """A version in the model registry."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """A model on the CPU, in evaluation mode, with one batch to show what goes in and comes out."""

    module: "nn.Module"
    input_example: NDArray[np.float32]
    """First dimension: batch, of 2 or more, or the exported model would take that batch size only."""
    output_example: NDArray[np.float32]


class Run(Protocol):
    """One run, being recorded."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record one value per metric, each (metric, step) once. Returns at once in the usual case: values are sent in batches."""

    def log_artifact(self, name: str, content: bytes) -> None:
        """Store a file beside the run."""

    def register_model(self, model: TrainedModel, *, name: str) -> RegisteredModel:
        """Store the model with its signature and register it as a new version of `name`, alias `challenger`."""
