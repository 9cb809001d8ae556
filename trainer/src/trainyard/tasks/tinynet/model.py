"""The network."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainyard.tasks.tinynet.config import ModelConfig


def two_layers(config: ModelConfig, examples: NDArray[np.float32], *, classes: int) -> nn.Sequential:
    """Takes examples like those it is trained on, of shape (n, features), as they are; gives logits of shape (n, classes)."""
    features = examples.shape[1]
    return nn.Sequential(
        Standardize(torch.from_numpy(examples)),
        nn.Linear(features, config.hidden),
        nn.ReLU(),
        nn.Linear(config.hidden, classes),
    )


class Standardize(nn.Module):
    """Each feature with mean 0 and standard deviation 1 over the training examples; a part of the model, as its user has raw ones."""

    mean: Tensor
    std: Tensor

    def __init__(self, examples: Tensor) -> None:
        """`examples`: shape (n, features)."""
        super().__init__()
        std = examples.std(dim=0, correction=0)
        self.register_buffer("mean", examples.mean(dim=0))
        self.register_buffer("std", torch.where(std > 0, std, 1.0))  # a feature that is always the same stays 0

    def forward(self, examples: Tensor) -> Tensor:
        """Shape (n, features), both."""
        return (examples - self.mean) / self.std
