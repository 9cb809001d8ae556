"""Several real processes train one model: the same numbers as one process, and the same weights everywhere."""

from pathlib import Path

import pytest
import torch
from torch import nn
from trainyard import distributed
from trainyard.tasks.conclusion import PARAMETER_HASH_TAG, tag_parameter_hash

from tests.unit.trainer.trainings import MemoryRun, finished, train_together, write_texts

# Without dropout, which is each rank's own. The last step of an epoch has one example, so one rank has none.
SETTINGS = {
    "tinynet": ("epochs=2", "data.examples=203", "batch_size=35"),
    "digits": ("epochs=2", "batch_size=157", "model.channels=4", "model.dropout=0"),
    "text": (
        *("epochs=2", "batch_size=167", "model.layers=1", "model.width=16", "model.heads=2", "model.dropout=0"),
        "vocabulary.length=8",
    ),
}


@pytest.mark.parametrize("task", list(SETTINGS))
def test_two_processes_train_like_one(task: str, tmp_path: Path) -> None:
    settings = SETTINGS[task]
    if task == "text":
        settings = (*settings, f"data.uri={write_texts(tmp_path / 'texts.csv')}")
    alone = finished(task, *settings, folder=tmp_path / "alone")
    together = train_together(2, task, *settings, folder=tmp_path / "together")
    for each in together:
        metrics = {(key, step): value for key, step, value in each["metrics"]}
        assert metrics == pytest.approx(alone.metrics, rel=1e-5, abs=1e-5)
    assert together[0]["metrics"] == together[1]["metrics"], "the ranks agree to the last bit"
    hashes = {each["hash"] for each in together} | {each["tags"][PARAMETER_HASH_TAG] for each in together}
    assert len(hashes) == 1


def test_several_processes_go_on_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM reaches one of them; both stop, and what follows is what would have been, dropout included."""
    settings = ("epochs=2", "batch_size=256", "model.channels=2")
    undisturbed = train_together(2, "digits", *settings, folder=tmp_path / "undisturbed")
    monkeypatch.setenv("STOP_DURING", "7")
    first = train_together(2, "digits", *settings, folder=tmp_path / "run")
    assert [each["finished"] for each in first] == [False, False]
    monkeypatch.delenv("STOP_DURING")
    second = train_together(2, "digits", *settings, folder=tmp_path / "run")
    for rank in range(2):
        assert first[rank]["metrics"] + second[rank]["metrics"] == undisturbed[rank]["metrics"]
        assert second[rank]["hash"] == undisturbed[0]["hash"]


def test_one_process_has_a_parameter_hash_too() -> None:
    run = MemoryRun()
    model = nn.Linear(2, 2)
    assert tag_parameter_hash(model, run) == distributed.parameter_hash(model) == run.tags[PARAMETER_HASH_TAG]


def test_ranks_with_different_weights_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    monkeypatch.setattr(distributed, "gather", lambda value: [value, "sha256:0123456789ab"])
    run = MemoryRun()
    with pytest.raises(RuntimeError, match="rank 1: sha256:0123456789ab"):
        tag_parameter_hash(model, run)
    assert run.tags == {}


def test_the_weights_are_rank_0s_and_dropout_is_each_ranks_own() -> None:
    from trainyard.distributed import World
    from trainyard.tasks.classification.fit import begin

    drawn = []
    for rank in range(2):
        begin(5, World(rank=rank, size=2, device=torch.device("cpu")))
        drawn.append(torch.rand(1).item())
    begin(5, World(device=torch.device("cpu")))
    assert drawn[0] == torch.rand(1).item()
    assert drawn[0] != drawn[1]
