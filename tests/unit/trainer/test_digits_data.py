"""The dataset and its division."""

from pathlib import Path

import numpy as np
import pytest
from trainyard.errors import ConfigError
from trainyard.tasks.digits.data import load
from trainyard.tasks.sections import LabelledDataConfig


def test_parts_cover_the_dataset_without_overlap() -> None:
    digits = load(LabelledDataConfig())
    parts = (digits.train, digits.validation, digits.test)
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(1797))
    assert [len(part.labels) for part in parts] == pytest.approx([0.7 * 1797, 0.15 * 1797, 0.15 * 1797], abs=2)


def test_every_class_has_its_share_in_each_part() -> None:
    digits = load(LabelledDataConfig())
    for part in (digits.train, digits.validation, digits.test):
        shares = np.bincount(part.labels, minlength=10) / len(part.labels)
        assert shares.min() > 0.085
        assert shares.max() < 0.115


def test_the_division_follows_its_seed_only() -> None:
    first, again, other = load(LabelledDataConfig()), load(LabelledDataConfig()), load(LabelledDataConfig(split_seed=1))
    assert np.array_equal(first.test.indices, again.test.indices)
    assert not np.array_equal(first.test.indices, other.test.indices)
    assert first.version == other.version


def test_images_are_scaled_to_one() -> None:
    train = load(LabelledDataConfig()).train
    assert train.inputs.shape[1:] == (1, 8, 8)
    assert (train.inputs.min(), train.inputs.max()) == (0, 1)


def own(folder: Path, images: np.ndarray, labels: np.ndarray) -> LabelledDataConfig:
    np.savez(folder / "own.npz", images=images, labels=labels)
    return LabelledDataConfig(uri=str(folder / "own.npz"))


@pytest.mark.parametrize("shape", [(60, 8, 8), (60, 1, 8, 8), (60, 64)])
def test_own_images_are_scaled_by_their_brightest_pixel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape)
    images.flat[0] = 255
    dataset = load(own(tmp_path, images, np.arange(60) % 3))
    assert dataset.class_names == ("0", "1", "2")
    parts = (dataset.train, dataset.validation, dataset.test)
    order = np.argsort(np.concatenate([part.indices for part in parts]))
    loaded = np.concatenate([part.inputs for part in parts])[order]
    np.testing.assert_allclose(loaded, images.reshape(-1, 1, 8, 8) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.ones((60, 9, 8)), np.arange(60) % 2, r"shape \(9, 8\)"),
        (np.full((60, 8, 8), np.nan), np.arange(60) % 2, "NaN"),
        (np.full((60, 8, 8), -1.0), np.arange(60) % 2, "pixels are -1 to -1; must be 0 or more"),
        (np.zeros((60, 8, 8)), np.arange(60) % 2, "not all black"),
        (np.ones((60, 8, 8)), np.array([0] * 59 + [1]), "class 1 has 1 of 60"),
    ],
)
def test_own_images_that_cannot_be_trained_on_are_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load(own(tmp_path, images, labels))
