"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, ten classes (UCI optdigits, test part); or your own."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from trainyard.data import labelled_arrays, splits
from trainyard.errors import ConfigError
from trainyard.provenance import dataset_version
from trainyard.tasks.classification.data import Dataset
from trainyard.tasks.sections import LabelledDataConfig

_SHAPE = (1, 8, 8)
_BRIGHTEST = 16.0


def load(config: LabelledDataConfig) -> Dataset:
    """Images of shape (n, 1, 8, 8), 0 to 1, divided by `config.split_seed` with every class in each part. Raises ConfigError."""
    if config.uri:
        own = labelled_arrays(config.uri, shape=_SHAPE)
        images, labels, class_names = _scaled(own.features, config.uri), own.labels, own.class_names
        version, statistics = own.version, own.statistics
    else:
        raw = load_digits()
        images = (raw.images / _BRIGHTEST).astype(np.float32)[:, np.newaxis]
        labels = raw.target.astype(np.int64)
        class_names = tuple(map(str, raw.target_names))
        version, statistics = dataset_version(images, labels), {"source": "sklearn.datasets.load_digits"}
    return Dataset.divided(
        images,
        labels,
        splits(labels, config.validation_fraction, config.test_fraction, config.split_seed),
        class_names=class_names,
        version=version,
        statistics=statistics,
    )


def _scaled(images: NDArray[np.float32], uri: str) -> NDArray[np.float32]:
    """By the brightest pixel of all, whether that is 1, 16 or 255. Raises ConfigError."""
    darkest, brightest = images.min(), images.max()
    if darkest < 0 or brightest == 0:
        raise ConfigError(f"{uri}: pixels are {darkest:g} to {brightest:g}; must be 0 or more, and not all black")
    return images / brightest
