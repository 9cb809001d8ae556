"""A training that is stopped anywhere and continued gives what an undisturbed one gives, to the last bit."""

import csv
import io
from pathlib import Path

import pytest
import torch

from tests.unit.trainer.trainings import MemoryRun, finished, train, write_texts

SETTINGS = {
    "tinynet": ("epochs=3", "data.examples=200", "batch_size=32"),
    "digits": ("epochs=3", "batch_size=256", "model.channels=2"),
    "text": ("epochs=3", "batch_size=48", "model.layers=1", "model.width=16", "model.heads=2", "vocabulary.length=8"),
}
STEPS_PER_EPOCH = {"tinynet": 5, "digits": 5, "text": 4}


@pytest.fixture(params=list(SETTINGS))
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(task: str, tmp_path: Path) -> tuple[str, ...]:
    own = (f"data.uri={write_texts(tmp_path / 'texts.csv')}",) if task == "text" else ()
    return (*SETTINGS[task], *own)


def same(run: MemoryRun, undisturbed: MemoryRun) -> None:
    assert run.metrics == undisturbed.metrics
    assert run.files.keys() == undisturbed.files.keys()
    for name in ("history.csv", "sample_predictions.json"):
        assert run.files[name] == undisturbed.files[name]
    assert run.tags == undisturbed.tags
    assert run.weights.keys() == undisturbed.weights.keys()
    assert all(torch.equal(value, undisturbed.weights[name]) for name, value in run.weights.items())


def test_stopped_again_and_again(task: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    """Within an epoch, in its last step, in the first of the next, in the last of all."""
    undisturbed = finished(task, *settings, folder=tmp_path / "undisturbed")
    per_epoch = STEPS_PER_EPOCH[task]
    assert undisturbed.step == 3 * per_epoch
    run = MemoryRun()
    for stop in (2, per_epoch, per_epoch + 1, 3 * per_epoch):
        _, outcome = train(task, *settings, folder=tmp_path / "run", run=run, stop_during=stop)
        assert outcome is None
        assert run.step == stop
        torch.manual_seed(stop)  # as another process would have another state
        torch.rand(stop)
    _, outcome = train(task, *settings, folder=tmp_path / "run", run=run)
    assert outcome is not None
    same(run, undisturbed)


def test_history_is_whole_after_a_resume(task: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    run = MemoryRun()
    train(task, *settings, folder=tmp_path / "run", run=run, stop_during=2 * STEPS_PER_EPOCH[task] + 1)
    train(task, *settings, folder=tmp_path / "run", run=run)
    rows = list(csv.DictReader(io.StringIO(run.files["history.csv"].decode())))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [int(row["step"]) for row in rows] == [STEPS_PER_EPOCH[task] * epoch for epoch in (1, 2, 3)]
    columns = [name for name in rows[0] if name not in ("epoch", "step")]
    assert len(columns) == 4
    for name in columns:
        assert [float(row[name]) for row in rows] == run.values(name)


def test_early_stopping_remembers_how_long_it_has_waited(tmp_path: Path) -> None:
    """A learning rate so high that nothing gets better: it stops after the patience, counted over the resume."""
    settings = ("epochs=50", "patience=4", "data.examples=200", "batch_size=140", "lr=1.0", "data.noise=1.0")
    undisturbed = finished("tinynet", *settings, folder=tmp_path / "undisturbed")
    epochs = len(undisturbed.values("validation/loss"))
    losses = undisturbed.values("validation/loss")
    assert epochs < 50
    assert losses.index(min(losses)) == epochs - 1 - 4
    run = MemoryRun()
    for stop in (epochs - 3, epochs - 1, epochs):
        _, outcome = train("tinynet", *settings, folder=tmp_path / "run", run=run, stop_during=stop)
        assert outcome is None
    said: list[str] = []
    train("tinynet", *settings, folder=tmp_path / "run", run=run, said=said)
    assert "stopped early: no lower validation loss for 4 epochs" in said
    same(run, undisturbed)
