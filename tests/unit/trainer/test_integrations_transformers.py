"""Hugging Face's Trainer with our callback: stopped at any moment, it ends with the numbers of one that was not."""

import signal
import socket
from pathlib import Path

import pytest
import torch
from trainyard.errors import ConfigError
from trainyard.integrations import checkpoint_folder
from trainyard.integrations.transformers import last_checkpoint, train
from trainyard.tracking.run import NoRun
from transformers import Trainer, TrainingArguments

from tests.unit.trainer.conftest import Laptop
from tests.unit.trainer.examples import FOLDER, JOB, finished, measured, status, stopped, stopping

_SCRIPT = FOLDER / "hf_trainer.py"
_WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    laptop = Laptop(tmp_path_factory.mktemp("undisturbed"))
    finished(laptop, _SCRIPT)
    return laptop


def _assert_same(laptop: Laptop, undisturbed: Laptop) -> None:
    assert measured(laptop) == measured(undisturbed)
    assert [step for key, step in measured(laptop) if key == "train/loss"] == list(range(1, 61))
    assert (laptop.folder / _WEIGHTS).read_bytes() == (undisturbed.folder / _WEIGHTS).read_bytes()
    assert status(laptop) == "FINISHED"


def test_it_records_what_the_trainer_logs(undisturbed: Laptop) -> None:
    run = undisturbed.json_run()
    assert run["params"]["args.learning_rate"] == "0.01"
    assert {key for _, key, _ in run["points"]} >= {"train/loss", "train/learning_rate", "train/epoch", "eval/loss"}
    assert [step for step, key, _ in run["points"] if key == "eval/loss"] == [15, 30, 45, 60]


# 30 is the last step of an epoch: its evaluation comes before the process ends.
@pytest.mark.parametrize(("step", "saved"), [(36, 37), (29, 30)])
def test_it_goes_on_after_sigterm(laptop: Laptop, undisturbed: Laptop, step: int, saved: int) -> None:
    ended = stopped(laptop, _SCRIPT, step, signal.SIGTERM)
    assert ended.code == 75, ended.stderr
    assert f"checkpoint of step {saved} is written" in ended.stderr
    assert status(laptop) == "SCHEDULED"
    assert not (laptop.folder / _WEIGHTS).exists()
    finished(laptop, _SCRIPT)
    _assert_same(laptop, undisturbed)
    assert "train/train_loss" not in laptop.json_run()["metrics"], "a mean over half of the steps"


def test_it_goes_on_after_sigkill_and_passes_over_half_a_checkpoint(laptop: Laptop, undisturbed: Laptop) -> None:
    assert stopped(laptop, _SCRIPT, 36, signal.SIGKILL).code == -signal.SIGKILL
    (newest,) = laptop.folder.glob(".trainyard/checkpoints/*/checkpoint-30")
    with (newest / "optimizer.pt").open("r+b") as file:
        file.truncate(1000)
    ended = finished(laptop, _SCRIPT)
    assert "checkpoint-30 is not taken: files are missing or cut" in ended.stderr
    _assert_same(laptop, undisturbed)


@pytest.fixture
def world() -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}


def test_sigterm_to_one_rank_stops_both_and_they_go_on(
    laptop: Laptop, tmp_path_factory: pytest.TempPathFactory, world: dict[str, str]
) -> None:
    first, second = {**world, "RANK": "0", "LOCAL_RANK": "0"}, {**world, "RANK": "1", "LOCAL_RANK": "1"}

    def both(laptop: Laptop) -> None:
        other = laptop.python(str(_SCRIPT), **JOB, **second)
        finished(laptop, _SCRIPT, **first)
        assert laptop.wait(other).code == 0

    other = laptop.python(str(_SCRIPT), **JOB, **second)
    leader = stopping(laptop, _SCRIPT, 10, **first)
    other.send_signal(signal.SIGTERM)
    (laptop.folder / "go").touch()
    ended = laptop.wait(leader)
    assert ended.code == 75, ended.stderr
    assert "checkpoint of step 11 is written" in ended.stderr
    assert laptop.wait(other).code == 75
    both(laptop)
    undisturbed = Laptop(tmp_path_factory.mktemp("two"))
    both(undisturbed)
    assert measured(laptop) == measured(undisturbed)
    assert [step for key, step in measured(laptop) if key == "train/loss"] == list(range(1, 33))
    assert (laptop.folder / _WEIGHTS).read_bytes() == (undisturbed.folder / _WEIGHTS).read_bytes()


def test_arguments_with_which_a_training_cannot_go_on_are_refused_together(tmp_path: Path) -> None:
    args = TrainingArguments(
        str(tmp_path), use_cpu=True, enable_jit_checkpoint=True, save_total_limit=1, save_only_model=True
    )
    before = signal.getsignal(signal.SIGTERM)
    trainer = Trainer(torch.nn.Linear(1, 1), args)
    signal.signal(signal.SIGTERM, before)
    with pytest.raises(ConfigError) as refused:
        train(trainer, NoRun("run"))
    told = str(refused.value)
    assert "enable_jit_checkpoint=True: leave it out" in told
    assert "save_total_limit=1: must be 2 or more" in told
    assert "save_only_model=True: a training cannot go on" in told


def _checkpoint(folder: Path, step: int, *files: str) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    for name in files:
        (path / name).write_text("12345")
    return path


def _complete(folder: Path, step: int) -> Path:
    path = _checkpoint(folder, step, "model.safetensors", "trainer_state.json")
    (path / "trainyard.json").write_text('{"files": {"model.safetensors": 5, "trainer_state.json": 5}}')
    return path


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
    assert last_checkpoint(tmp_path) is None
    complete = [_complete(tmp_path, step) for step in (8, 10)]
    _checkpoint(tmp_path, 20, "model.safetensors", "trainer_state.json")
    _checkpoint(tmp_path, 100, "model.safetensors")
    missing = _complete(tmp_path, 30)
    (missing / "model.safetensors").unlink()
    assert last_checkpoint(tmp_path) == str(complete[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-10",
        "checkpoint-8",
        "incomplete-checkpoint-20",
        "incomplete-checkpoint-30",
    ]
    told = capsys.readouterr().err
    assert "checkpoint-100 is not taken and removed: the process was killed while it wrote it" in told
    assert "it was not written by `train`; it is now incomplete-checkpoint-20" in told


def test_a_second_rank_leaves_the_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    _checkpoint(tmp_path, 20, "trainer_state.json")
    assert last_checkpoint(tmp_path) is None
    assert (tmp_path / "checkpoint-20").exists()


def test_checkpoints_in_s3_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_CHECKPOINT_URI", "s3://bucket/checkpoints")
    with pytest.raises(ConfigError, match="TRAINYARD_CHECKPOINT_URI=s3://bucket/checkpoints: Hugging Face's Trainer"):
        checkpoint_folder(NoRun("run"))
