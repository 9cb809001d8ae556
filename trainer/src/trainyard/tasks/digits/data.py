"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, ten classes (UCI optdigits, test part)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from trainyard.provenance import dataset_version
from trainyard.tasks.digits.config import DataConfig

CLASSES = 10
_BRIGHTEST = 16.0


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the dataset; n images."""

    indices: NDArray[np.int64]
    """Shape (n,): position in the whole dataset."""
    images: NDArray[np.float32]
    """Shape (n, 1, 8, 8), 0 to 1."""
    labels: NDArray[np.int64]
    """Shape (n,), 0 to 9."""


@dataclass(frozen=True, slots=True)
class Digits:
    """The three parts; no image is in two."""

    train: Part
    validation: Part
    test: Part
    version: str
    """Hash of all images and labels, before they are divided."""


def load(config: DataConfig) -> Digits:
    """The dataset, divided by `config.split_seed` with every class in each part."""
    raw = load_digits()
    images = (raw.images / _BRIGHTEST).astype(np.float32)[:, np.newaxis]
    labels = raw.target.astype(np.int64)
    rest, test = _split(np.arange(len(labels)), labels, config.test_fraction, config.split_seed)
    # The fraction counts from the whole, as test_fraction does.
    share = config.validation_fraction / (1 - config.test_fraction)
    train, validation = _split(rest, labels, share, config.split_seed)

    def part(indices: NDArray[np.int64]) -> Part:
        return Part(indices, images[indices], labels[indices])

    return Digits(part(train), part(validation), part(test), dataset_version(images, labels))


def _split(
    indices: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide `indices` into (rest, `fraction`), both sorted."""
    rest, taken = train_test_split(indices, test_size=fraction, stratify=labels[indices], random_state=seed)
    return np.sort(rest), np.sort(taken)
