"""A part of the data as tensors, and what a model says to it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainyard import distributed
from trainyard.batches import Batches
from trainyard.tasks.classification.data import Part
from trainyard.tasks.classification.score import Score

_AT_ONCE = 256


class Examples:
    """A part of the data, whole on the device: these tasks have megabytes."""

    def __init__(self, part: Part, device: torch.device) -> None:
        self.inputs = torch.from_numpy(part.inputs).to(device)
        self.labels = torch.from_numpy(part.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(inputs, labels) of the examples at `positions`."""
        positions = positions.to(self.labels.device)
        return self.inputs[positions], self.labels[positions]

    def batches(self, size: int, seed: int, world: distributed.World) -> Batches:
        """Of `size` examples, over all processes together, in the order of `seed`."""
        return Batches(len(self), size, seed=seed, rank=world.rank, world_size=world.size)


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says to n examples."""

    score: Score
    probabilities: NDArray[np.float32]
    """Shape (n, classes); rows sum to 1."""

    @property
    def classes(self) -> NDArray[np.int64]:
        """Shape (n,): the most probable one."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found


@torch.no_grad()
def predict(model: nn.Module, examples: Examples, world: distributed.World) -> Predictions:
    """The same on every rank, whatever their number: each works on some chunks, and the chunks do not depend on the ranks."""
    model = distributed.plain(model)
    model.eval()
    chunks = examples.inputs.split(_AT_ONCE)
    shares = distributed.gather([model(chunk).float().cpu() for chunk in chunks[world.rank :: world.size]])
    logits = torch.cat([shares[index % world.size][index // world.size] for index in range(len(chunks))])
    labels = examples.labels.cpu()
    right = (logits.argmax(dim=1) == labels).double().mean()
    return Predictions(Score(cross_entropy(logits, labels).item(), right.item()), torch.softmax(logits, dim=1).numpy())
