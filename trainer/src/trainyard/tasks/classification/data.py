"""Labelled examples in three parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data import Splits
from trainyard.data.arrays import count_classes


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a dataset; n examples."""

    indices: NDArray[np.int64]
    """Shape (n,): position in the whole dataset."""
    inputs: NDArray[np.generic]
    """Shape (n, ...): what the model is given."""
    labels: NDArray[np.int64]
    """Shape (n,), 0 to classes - 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The three parts; no example is in two."""

    train: Part
    validation: Part
    test: Part
    class_names: Sequence[str]
    """In the order of the labels; their numbers where they have no names."""
    version: str
    """Of all examples, before they are divided."""
    statistics: Mapping[str, Any]
    """For `dataset.json`."""

    @classmethod
    def divided(
        cls,
        inputs: NDArray[np.generic],
        labels: NDArray[np.int64],
        division: Splits,
        *,
        class_names: Sequence[str],
        version: str,
        statistics: Mapping[str, Any],
    ) -> "Dataset":
        """Of all examples: `inputs` of shape (n, ...), `labels` of shape (n,). To `statistics` the parts' are added."""

        def part(indices: NDArray[np.int64]) -> Part:
            return Part(indices, inputs[indices], labels[indices])

        parts = {"train": part(division.train), "validation": part(division.validation), "test": part(division.test)}
        counts = {name: count_classes(each.labels, class_names) for name, each in parts.items()}
        return cls(
            **parts,
            class_names=class_names,
            version=version,
            statistics={**statistics, "version": version, "parts": counts},
        )

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.class_names)

    @property
    def has_names(self) -> bool:
        """Whether classes are more than numbers."""
        return list(self.class_names) != [str(label) for label in range(self.classes)]
