"""The dataset and its division."""

import numpy as np
import pytest
from trainyard.tasks.digits.config import DataConfig
from trainyard.tasks.digits.data import load


def test_parts_cover_the_dataset_without_overlap() -> None:
    digits = load(DataConfig())
    parts = (digits.train, digits.validation, digits.test)
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(1797))
    assert [len(part.labels) for part in parts] == pytest.approx([0.7 * 1797, 0.15 * 1797, 0.15 * 1797], abs=2)


def test_every_class_has_its_share_in_each_part() -> None:
    digits = load(DataConfig())
    for part in (digits.train, digits.validation, digits.test):
        shares = np.bincount(part.labels, minlength=10) / len(part.labels)
        assert shares.min() > 0.085
        assert shares.max() < 0.115


def test_the_division_follows_its_seed_only() -> None:
    first, again, other = load(DataConfig()), load(DataConfig()), load(DataConfig(split_seed=1))
    assert np.array_equal(first.test.indices, again.test.indices)
    assert not np.array_equal(first.test.indices, other.test.indices)
    assert first.version == other.version


def test_images_are_scaled_to_one() -> None:
    train = load(DataConfig()).train
    assert train.images.shape[1:] == (1, 8, 8)
    assert (train.images.min(), train.images.max()) == (0, 1)
