"""Dividing examples into those to train, to validate and to test on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from trainyard.errors import ConfigError

_PARTS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Positions in the whole data set, each sorted; no example is in two, and every one in one."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def splits(labels: NDArray[np.int64], validation_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Divide examples with these labels, shape (n,), at random; every class has its share in each part, at least one example.

    Both fractions count from the whole. The same seed gives the same parts. Raises ConfigError if a class has too few examples.
    """
    counts = np.bincount(labels)
    if counts.min() < _PARTS:
        raise ConfigError(
            f"data: class {counts.argmin()} has {counts.min()} of {len(labels)} examples; each class needs at least {_PARTS}, one to "
            "train, one to validate and one to test on: add some, or leave the class out"
        )
    try:
        rest, test = _divide(np.arange(len(labels)), labels, test_fraction, seed)
        train, validation = _divide(rest, labels, validation_fraction / (1 - test_fraction), seed)
    except ValueError as error:  # fewer examples in a part than classes
        raise _too_few(labels, validation_fraction, test_fraction) from error
    if any(np.bincount(labels[part], minlength=len(counts)).min() == 0 for part in (train, validation, test)):
        raise _too_few(labels, validation_fraction, test_fraction)
    return Splits(train=train, validation=validation, test=test)


def _divide(
    indices: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`indices` as (rest, `fraction`), both sorted."""
    rest, taken = train_test_split(indices, test_size=fraction, stratify=labels[indices], random_state=seed)
    return np.sort(rest), np.sort(taken)


def _too_few(labels: NDArray[np.int64], validation_fraction: float, test_fraction: float) -> ConfigError:
    counts = np.bincount(labels)
    return ConfigError(
        f"data: class {counts.argmin()} has {counts.min()} of {len(labels)} examples; with data.validation_fraction="
        f"{validation_fraction:g} and data.test_fraction={test_fraction:g} not every class gets one in each part: raise these, "
        "or add examples"
    )
