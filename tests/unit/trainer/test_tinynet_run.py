"""`trainyard train tinynet` on a laptop, read back from MLflow: to its end, and stopped and started again."""

import csv
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from trainyard.tasks.tinynet.config import DataConfig
from trainyard.tasks.tinynet.data import load

from tests.unit.trainer.conftest import Ended, Laptop


def artifact(laptop: Laptop, run_id: str, name: str) -> bytes:
    return Path(laptop.client.download_artifacts(run_id, name)).read_bytes()


def test_a_whole_training(laptop: Laptop) -> None:
    ended = laptop.train("tinynet", "--set", "epochs=12")
    assert ended.code == 0, ended.stderr
    (run,) = laptop.runs("tinynet")
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("mlp_tinynet_")
    assert run.data.metrics["test/acc"] > 0.9
    assert run.data.tags["trainyard.parameter_hash"].startswith("sha256:")
    rows = list(csv.DictReader(io.StringIO(artifact(laptop, run.info.run_id, "history.csv").decode())))
    recorded = laptop.client.get_metric_history(run.info.run_id, "validation/loss")
    assert [(int(row["epoch"]), float(row["validation/loss"])) for row in rows] == [
        (each.step, each.value) for each in recorded
    ]
    assert artifact(laptop, run.info.run_id, "learning_curve.png").startswith(b"\x89PNG")
    dataset = json.loads(artifact(laptop, run.info.run_id, "dataset.json"))
    assert dataset["source"] == "sklearn.datasets.make_moons"
    assert dataset["version"] == run.data.tags["trainyard.dataset_version"]
    mlflow.set_tracking_uri(laptop.uri)
    model = mlflow.pyfunc.load_model("models:/tiny_alignment_model@challenger")
    test = load(DataConfig()).test
    right = float((model.predict(test.inputs).argmax(axis=1) == test.labels).mean())
    assert right == pytest.approx(run.data.metrics["test/acc"])
    assert model.metadata.signature is not None


def test_stopped_and_started_again(
    laptop: Laptop,
    tmp_path_factory: pytest.TempPathFactory,
    stop_at: Callable[..., Ended],
) -> None:
    """One run, every step once, the same weights as a training that was left alone."""
    settings = ("tinynet", "--set", "epochs=60", "--set", "patience=0", "--set", "model.hidden=64")
    job = {"TRAINYARD_JOB_UID": "5c1e-uid"}
    stopped = stop_at(laptop.start(*settings, **job), "epoch  3/", signal.SIGTERM)
    assert stopped.code == 75, stopped.stderr
    (run,) = laptop.runs("tinynet")
    assert run.info.status == "SCHEDULED"
    again = laptop.train(*settings, **job)
    assert again.code == 0, again.stderr
    assert "epoch  1/60" not in again.stdout
    (run,) = laptop.runs("tinynet")
    assert run.info.status == "FINISHED"
    alone = Laptop(tmp_path_factory.mktemp("alone"))
    assert alone.train(*settings).code == 0
    (undisturbed,) = alone.runs("tinynet")
    for key in ("train/loss", "train/acc", "train/loss_epoch", "validation/loss", "test/acc"):
        first, other = (
            [(each.step, each.value) for each in one.client.get_metric_history(which.info.run_id, key)]
            for one, which in ((laptop, run), (alone, undisturbed))
        )
        assert sorted(first) == sorted(other), key
    tag = "trainyard.parameter_hash"
    assert run.data.tags[tag] == undisturbed.data.tags[tag]
    histories = [
        artifact(one, which.info.run_id, "history.csv") for one, which in ((laptop, run), (alone, undisturbed))
    ]
    assert histories[0] == histories[1]


def test_data_that_cannot_be_used_end_with_42(laptop: Laptop) -> None:
    table = laptop.folder / "table.csv"
    table.write_text("c0,label\n" + "1,a\n2,\n" * 20)
    ended = laptop.train("tinynet", "--set", f"data.uri={table}")
    assert ended.code == 42
    assert "table.csv: row 2" in ended.stderr
