"""The two-layer network, recorded in memory."""

import json
from pathlib import Path

import numpy as np
import pytest
from trainyard.config import configure
from trainyard.errors import ConfigError
from trainyard.tasks.tinynet.config import DataConfig, TinynetConfig
from trainyard.tasks.tinynet.data import load

from tests.unit.trainer.trainings import finished, train


def test_it_learns(tmp_path: Path) -> None:
    run, outcome = train("tinynet", folder=tmp_path)
    assert outcome is not None
    assert outcome.metrics == {"test/acc": run.values("test/acc")[0]}
    assert run.values("test/acc")[0] > 0.93
    losses = run.values("train/loss_epoch")
    assert losses[-1] < losses[0] / 3


def test_steps_and_epochs_are_recorded(tmp_path: Path) -> None:
    run = finished("tinynet", "epochs=3", "batch_size=100", folder=tmp_path)
    for name in ("train/loss", "train/acc", "train/lr"):
        assert [step for key, step in run.metrics if key == name] == list(range(1, 28))
    for name in ("train/loss_epoch", "train/acc_epoch", "validation/loss", "validation/acc"):
        assert [step for key, step in run.metrics if key == name] == [1, 2, 3]
    assert run.metrics["train/acc_epoch", 1] == pytest.approx(
        np.average(run.values("train/acc")[:9], weights=[100] * 8 + [40])
    )


def test_the_points_follow_the_settings() -> None:
    first, again = load(DataConfig(examples=400)), load(DataConfig(examples=400))
    assert first.version == again.version
    assert np.array_equal(first.train.inputs, again.train.inputs)
    assert sum(len(part.labels) for part in (first.train, first.validation, first.test)) == 400
    assert load(DataConfig(examples=400, noise=0.1)).version != first.version
    assert load(DataConfig(examples=400, split_seed=1)).version != first.version
    assert first.statistics["parts"]["train"] == {"upper": 139, "lower": 140}


def test_it_stops_when_the_validation_loss_does_not_fall(tmp_path: Path) -> None:
    settings = ("epochs=40", "lr=1.0", "data.examples=200", "data.noise=1.0")
    said: list[str] = []
    stopped = finished("tinynet", *settings, "patience=2", folder=tmp_path / "stopped", said=said)
    losses = stopped.values("validation/loss")
    assert len(losses) < 40
    assert min(losses) == losses[-3]
    assert said[-1] == "stopped early: no lower validation loss for 2 epochs"
    assert [step for key, step in stopped.metrics if key == "test/acc"] == [len(losses)]
    whole = finished("tinynet", *settings, "patience=0", folder=tmp_path / "whole")
    assert whole.values("validation/loss")[: len(losses)] == losses
    assert len(whole.values("validation/loss")) == 40


def test_the_model_is_registered_with_raw_examples(tmp_path: Path) -> None:
    run = finished("tinynet", "epochs=1", folder=tmp_path)
    example = run.model_settings.pop("input_example")
    assert run.model_settings == {"register": "tiny_alignment_model", "alias": "challenger", "step": 1}
    assert np.array_equal(example, load(DataConfig()).test.inputs[:4])


def test_example_predictions_show_the_features(tmp_path: Path) -> None:
    run = finished("tinynet", "epochs=1", folder=tmp_path)
    samples = json.loads(run.files["sample_predictions.json"])
    assert len(samples) == 20
    dataset = load(DataConfig())
    features = dict(zip(dataset.test.indices.tolist(), dataset.test.inputs, strict=True))
    for sample in samples:
        assert sample["features"] == pytest.approx(features[sample["index"]], abs=1e-4)
        assert {sample["label"], sample["predicted"]} <= {"upper", "lower"}


def write_table(path: Path, rows: int = 150) -> Path:
    """Three named classes and five columns: one tells the classes apart, at a scale of its own, one is always the same."""
    random = np.random.default_rng(0)
    labels = np.arange(rows) % 3
    columns = random.normal(size=(rows, 5))
    columns[:, 0] = 1e6 + 1e3 * (labels + 0.05 * columns[:, 0])
    columns[:, 4] = 7
    lines = [",".join(map(str, row)) + f",{'abc'[label]}" for row, label in zip(columns, labels, strict=True)]
    path.write_text("\n".join(["c0,c1,c2,c3,c4,label", *lines]) + "\n")
    return path


def test_an_own_table_may_have_any_columns_and_classes(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.csv")
    run = finished("tinynet", f"data.uri={table}", "epochs=60", "patience=0", folder=tmp_path / "checkpoints")
    assert run.model_settings["input_example"].shape == (4, 5)
    assert run.values("test/acc")[0] > 0.9
    assert {sample["label"] for sample in json.loads(run.files["sample_predictions.json"])} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no file or directory"),
        ("c0,label\n", "has no rows"),
        ("c0,label\n" + "1,a\n,b\n2,a\n3,b\n" * 3, "3 values are missing.*row 2"),
        ("c0,label\n" + "1,a\n" * 20, "every label is a"),
        ("c0,label\n" + "1,a\n" * 20 + "2,b\n", "class b has 1|class 1 has 1"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load(DataConfig(uri=str(path)))


def test_parts_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.validation_fraction \+ data.test_fraction is 0.9"):
        configure(TinynetConfig, ["data.validation_fraction=0.5", "data.test_fraction=0.4"])
