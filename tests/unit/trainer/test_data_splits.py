"""Dividing examples."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from trainyard.data import Splits, splits
from trainyard.errors import ConfigError

LABELS = np.random.default_rng(0).choice(4, size=400, p=[0.6, 0.2, 0.15, 0.05])


def parts(found: Splits) -> tuple[list[int], list[int], list[int]]:
    return found.train.tolist(), found.validation.tolist(), found.test.tolist()


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.15), (0.1, 0.3), (0.4, 0.4), (0.05, 0.05)])
def test_every_example_is_in_one_part_and_parts_have_their_size(validation: float, test: float) -> None:
    found = splits(LABELS, validation, test, seed=0)
    assert sorted(each for part in parts(found) for each in part) == list(range(400))
    assert len(found.validation) == pytest.approx(400 * validation, abs=1)
    assert len(found.test) == pytest.approx(400 * test, abs=1)
    assert all(part == sorted(part) for part in parts(found))


def test_every_class_has_its_share_in_each_part() -> None:
    found = splits(LABELS, 0.2, 0.2, seed=3)
    for part, share in zip(parts(found), (0.6, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(LABELS[part]) - np.bincount(LABELS) * share).max() <= 1.5


def test_the_seed_decides() -> None:
    assert parts(splits(LABELS, 0.2, 0.2, seed=1)) == parts(splits(LABELS, 0.2, 0.2, seed=1))
    assert parts(splits(LABELS, 0.2, 0.2, seed=1)) != parts(splits(LABELS, 0.2, 0.2, seed=2))


def test_the_test_part_does_not_depend_on_how_much_validates() -> None:
    assert splits(LABELS, 0.1, 0.2, seed=1).test.tolist() == splits(LABELS, 0.3, 0.2, seed=1).test.tolist()
    _, test = train_test_split(np.arange(400), test_size=0.2, stratify=LABELS, random_state=1)
    assert splits(LABELS, 0.3, 0.2, seed=1).test.tolist() == sorted(test.tolist())


def test_a_class_that_is_too_small_for_three_parts_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        splits(np.array([0] * 50 + [1] * 2 + [2] * 50), 0.15, 0.15, seed=0)
    assert str(caught.value).startswith(
        "data: class 1 has 2 of 102 examples; each class needs at least 3, one to train"
    )


@pytest.mark.parametrize("labels", [[0] * 500 + [1] * 3, list(range(20)) * 3], ids=["rare", "many classes"])
def test_parts_that_would_lack_a_class_are_refused(labels: list[int]) -> None:
    with pytest.raises(ConfigError) as caught:
        splits(np.array(labels), 0.05, 0.1, seed=0)
    rarest = "class 1 has 3 of 503 examples" if len(labels) == 503 else "class 0 has 3 of 60 examples"
    assert str(caught.value) == (
        f"data: {rarest}; with data.validation_fraction=0.05 and data.test_fraction=0.1 not every class gets one in each part: "
        "raise these, or add examples"
    )
