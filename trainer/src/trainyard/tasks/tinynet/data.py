"""Points in the plane, made here; or your own table of numbers."""

import numpy as np
from sklearn.datasets import make_moons

from trainyard.data import labelled_arrays, splits
from trainyard.provenance import dataset_version
from trainyard.tasks.classification.data import Dataset
from trainyard.tasks.tinynet.config import DataConfig


def load(config: DataConfig) -> Dataset:
    """Examples of shape (n, features), divided by `config.split_seed` with every class in each part. Raises ConfigError."""
    if config.uri:
        own = labelled_arrays(config.uri)
        examples, labels, class_names = own.features.reshape(len(own.labels), -1), own.labels, own.class_names
        version, statistics = own.version, own.statistics
    else:
        made = make_moons(config.examples, noise=config.noise, random_state=config.split_seed)
        examples, labels, class_names = made[0].astype(np.float32), made[1].astype(np.int64), ("upper", "lower")
        version, statistics = dataset_version(examples, labels), {"source": "sklearn.datasets.make_moons"}
    return Dataset.divided(
        examples,
        labels,
        splits(labels, config.validation_fraction, config.test_fraction, config.split_seed),
        class_names=class_names,
        version=version,
        statistics=statistics,
    )
