"""Training itself, recorded in memory: what is learnt, and that it is learnt again."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from tests.unit.trainer.conftest import SETTINGS, TrainedOnce
from tests.unit.trainer.trainings import finished, train


def test_the_defaults_reach_more_than_95_percent_on_the_test_part(tmp_path: Path) -> None:
    run, outcome = train("digits", folder=tmp_path)
    assert outcome is not None
    (accuracy,) = run.values("test/accuracy")
    assert outcome.metrics == {"test/accuracy": accuracy}
    assert accuracy > 0.95


def test_the_same_seed_gives_the_same_numbers_in_another_process(trained: TrainedOnce, tmp_path: Path) -> None:
    again = finished("digits", *SETTINGS[2::2], folder=tmp_path).metrics
    client, run_id = trained.laptop.client, trained.run.info.run_id
    for name in trained.run.data.metrics:
        first = {(name, each.step): each.value for each in client.get_metric_history(run_id, name)}
        assert first == {key: value for key, value in again.items() if key[0] == name}


def test_another_seed_gives_other_numbers(tmp_path: Path) -> None:
    first = finished("digits", "epochs=1", folder=tmp_path / "first")
    assert finished("digits", "epochs=1", "seed=1", folder=tmp_path / "other").metrics != first.metrics


def test_settings_reach_the_training(tmp_path: Path) -> None:
    small = finished("digits", "epochs=1", "batch_size=128", "model.channels=2", folder=tmp_path)
    assert small.step == len(small.values("train/loss_step")) == -(-1257 // 128)
    assert small.model[0].out_channels == 2
    rates = small.values("train/lr")
    assert rates[0] == 0.005
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.0005


def test_epoch_values_are_means_over_images(tmp_path: Path) -> None:
    """The last batch is smaller, so the mean over batches would be wrong."""
    run = finished("digits", "epochs=1", "batch_size=200", folder=tmp_path)
    assert run.metrics["train/loss", 1] == pytest.approx(
        np.average(run.values("train/loss_step"), weights=[200] * 6 + [57])
    )


def test_history_and_learning_curve_show_each_epoch(tmp_path: Path) -> None:
    run = finished("digits", "epochs=2", "model.channels=2", folder=tmp_path)
    rows = list(csv.DictReader(io.StringIO(run.files["history.csv"].decode())))
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        assert [float(row[name]) for row in rows] == run.values(name)
    assert run.files["learning_curve.png"].startswith(b"\x89PNG")


def test_own_images_with_other_classes_make_a_model_of_their_own(tmp_path: Path) -> None:
    labels = np.arange(90) % 3
    images = np.random.default_rng(0).random((90, 8, 8))
    images[np.arange(90), labels] += 2  # a bright row tells the class
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    run = finished("digits", f"data.uri={tmp_path}/own.npz", "epochs=5", folder=tmp_path / "checkpoints")
    assert run.model[-1].out_features == 3
    assert run.values("test/accuracy")[-1] > 0.9
