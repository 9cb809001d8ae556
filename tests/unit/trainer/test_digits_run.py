"""A finished training on a laptop, read back from MLflow."""

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits
from trainyard.config import config_hash, configure, flatten
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.tasks.digits.data import load
from trainyard.tasks.sections import LabelledDataConfig

from tests.unit.trainer.conftest import SETTINGS, TrainedOnce

CONFIG = configure(DigitsConfig, SETTINGS[2::2])
STEPS_PER_EPOCH = -(-len(load(LabelledDataConfig()).train.labels) // CONFIG.batch_size)


def history(trained: TrainedOnce, key: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in trained.laptop.client.get_metric_history(trained.run.info.run_id, key)]


def artifact(trained: TrainedOnce, name: str) -> bytes:
    return Path(trained.laptop.client.download_artifacts(trained.run.info.run_id, name)).read_bytes()


def test_the_run_is_finished_and_named(trained: TrainedOnce) -> None:
    assert trained.run.info.status == "FINISHED"
    assert trained.run.data.tags["trainyard.end_reason"] == "finished"
    day = datetime.fromtimestamp(trained.run.info.start_time / 1000, UTC).strftime("%Y%m%d")
    assert trained.run.info.run_name == f"cnn_digits_{day}_smoke"


def test_every_step_is_recorded_once(trained: TrainedOnce) -> None:
    steps = Counter(range(1, CONFIG.epochs * STEPS_PER_EPOCH + 1))
    for key in ("train/loss_step", "train/accuracy_step"):
        assert Counter(step for step, _ in history(trained, key)) == steps


def test_every_epoch_is_recorded_once(trained: TrainedOnce) -> None:
    for key in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        assert sorted(step for step, _ in history(trained, key)) == [1, 2, 3]
    for key in ("test/loss", "test/accuracy"):
        assert [step for step, _ in history(trained, key)] == [3]


def test_it_learns(trained: TrainedOnce) -> None:
    losses = dict(history(trained, "train/loss"))
    assert losses[3] < losses[1] / 2
    assert trained.run.data.metrics["test/accuracy"] > 0.9


def test_every_setting_is_a_parameter(trained: TrainedOnce) -> None:
    assert trained.run.data.params == {key: str(value) for key, value in flatten(CONFIG).items()}


def test_tags_say_where_the_run_came_from(trained: TrainedOnce) -> None:
    tags = {key.removeprefix("trainyard."): value for key, value in trained.run.data.tags.items()}
    expected = {
        "job_uid": "0c1f-uid",
        "job_name": "train-digits",
        "image": "trainyard/trainer:0.1.0",
        "git_commit": "4f2a",
        "git_branch": "main",
        "git_dirty": "false",
        "config_hash": config_hash("digits", CONFIG),
        "dataset_version": load(LabelledDataConfig()).version,
    }
    assert expected.items() <= tags.items()


def test_artifacts_can_be_read(trained: TrainedOnce) -> None:
    assert artifact(trained, "confusion_matrix.png").startswith(b"\x89PNG")
    assert yaml.safe_load(artifact(trained, "config.yaml"))["task"] == "digits"
    environment = json.loads(artifact(trained, "environment.json"))
    assert {"python", "packages", "cpu", "device", "host", "image"} <= environment.keys()
    assert environment["packages"]["torch"]
    samples = json.loads(artifact(trained, "sample_predictions.json"))
    digits = load_digits()
    assert len(samples) == 20
    assert all(digits.target[sample["index"]] == sample["label"] for sample in samples)


def test_the_registered_model_predicts_like_the_trained_one(trained: TrainedOnce) -> None:
    client = trained.laptop.client
    version = client.get_model_version_by_alias("digits", "challenger")
    assert version.run_id == trained.run.info.run_id
    mlflow.set_tracking_uri(trained.laptop.uri)
    model = mlflow.pyfunc.load_model("models:/digits@challenger")
    assert model.metadata.signature is not None
    assert model.metadata.saved_input_example_info is not None
    test = load(LabelledDataConfig()).test
    accuracy = float(np.mean(model.predict(test.inputs).argmax(axis=1) == test.labels))
    assert accuracy == pytest.approx(trained.run.data.metrics["test/accuracy"], abs=1e-6)
    assert len(model.predict(test.inputs[:1])) == 1, "the batch size is free"


def test_the_model_belongs_to_the_experiment_of_the_run(trained: TrainedOnce) -> None:
    (output,) = trained.laptop.client.get_run(trained.run.info.run_id).outputs.model_outputs
    logged = trained.laptop.client.get_logged_model(output.model_id)
    assert logged.experiment_id == trained.run.info.experiment_id
    assert logged.status == "READY"


def test_output_is_a_short_progress_log(trained: TrainedOnce) -> None:
    lines = trained.ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "training",
        "epoch",
        "epoch",
        "epoch",
        "run:",
        "test/accuracy:",
        "model:",
    ]
    assert lines[-3] == f"run: {trained.run.info.run_name} ({trained.run.info.run_id})"
    assert re.fullmatch(r"test/accuracy: 0\.\d{4}", lines[-2])
    assert lines[-1] == "model: digits version 1"
    assert trained.ended.stderr == ""
