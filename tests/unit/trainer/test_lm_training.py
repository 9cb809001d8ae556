"""Training a small GPT, recorded in memory."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from trainyard.checkpoint import Preempted
from trainyard.distributed import World
from trainyard.errors import ConfigError
from trainyard.tasks.lm.saved import load_base

from tests.unit.trainer.conftest import Laptop
from tests.unit.trainer.lm_trainings import SMALL, SMALL_MODEL, STEPS, MemoryRun, train, train_without_end, trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MemoryRun:
    run, _ = train("lm", tmp_path_factory.mktemp("trained"))
    return run


def test_the_loss_falls(trained: MemoryRun) -> None:
    assert trained.values("train/loss")[0] > 5
    assert trained.values("train/loss")[-1] < 3.5
    losses = trained.values("validation/loss")
    assert losses == sorted(losses, reverse=True)
    assert trained.values("validation/perplexity") == pytest.approx(np.exp(losses))


def test_every_step_is_recorded(trained: MemoryRun) -> None:
    for key in ("train/loss", "lr", "grad_norm"):
        assert [step for step, name in sorted(trained.points) if name == key] == list(range(1, STEPS + 1))
    assert [step for step, name in sorted(trained.points) if name == "validation/loss"] == [8, 16, 24]


def test_the_last_loss_is_the_outcome(tmp_path: Path) -> None:
    run, outcome = train("lm", tmp_path, "steps=10", "evaluate_every=100")
    assert [outcome.metrics["validation/loss"]] == run.values("validation/loss")


def test_samples_continue_places_of_the_text(trained: MemoryRun) -> None:
    samples = trained.files["samples.json"]
    assert len(samples) == 3
    assert all(len(sample["prompt"]) == 32 and sample["text"] for sample in samples)


def test_the_same_seed_gives_the_same_numbers(trained: MemoryRun, tmp_path: Path) -> None:
    run, _ = train("lm", tmp_path)
    assert run.points == trained.points
    assert run.tags["trainyard.parameter_hash"] == trained.tags["trainyard.parameter_hash"]


@pytest.mark.parametrize(
    "setting",
    [
        "seed=1",
        "batch_size=4",
        "model.layers=1",
        "model.heads=1",
        "model.width=16",
        "model.context=8",
        "model.dropout=0.1",
        "optimizer.lr=0.001",
        "optimizer.warmup_steps=2",
        "optimizer.min_lr_share=0.9",
        "optimizer.weight_decay=0.9",
        "optimizer.beta1=0.5",
        "optimizer.beta2=0.5",
        "optimizer.clip=0.1",
        "optimizer.clip=0",
        "data.validation_fraction=0.3",
    ],
)
def test_settings_reach_the_training(setting: str, trained: MemoryRun, tmp_path: Path) -> None:
    run = train_without_end("lm", tmp_path, setting)
    assert run.values("train/loss")[:12] != trained.values("train/loss")[:12] or setting == "optimizer.min_lr_share=0.9"
    assert run.values("validation/loss") != trained.values("validation/loss")


def test_long_gradients_are_shortened(tmp_path: Path) -> None:
    """AdamW's first step does not depend on the gradient's length, the second on how the first two compare."""
    short = train_without_end("lm", tmp_path / "short", "optimizer.clip=0.1", "steps=5")
    long = train_without_end("lm", tmp_path / "long", "optimizer.clip=0", "steps=5")
    assert short.values("grad_norm")[0] == long.values("grad_norm")[0] > 0.1
    assert short.values("train/loss")[2] != long.values("train/loss")[2]


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_are_the_whole_batch(parts: int, trained: MemoryRun, tmp_path: Path) -> None:
    run = train_without_end("lm", tmp_path, f"accumulate={parts}")
    for key in ("train/loss", "grad_norm", "validation/loss"):
        assert run.values(key) == pytest.approx(trained.values(key), rel=1e-3)
    assert run.values("train/loss")[:5] == pytest.approx(trained.values("train/loss")[:5], rel=1e-5)


def test_bfloat16_is_near_and_not_the_same(trained: MemoryRun, tmp_path: Path) -> None:
    run, _ = train("lm", tmp_path, "precision=bfloat16")
    assert run.values("train/loss") == pytest.approx(trained.values("train/loss"), rel=0.05)
    assert run.values("train/loss") != trained.values("train/loss")
    weights = load_base(tmp_path / "model", "base.model").state_dict()
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_an_interrupted_training_gives_the_same_bits(dropout: float, tmp_path: Path) -> None:
    setting = f"model.dropout={dropout}"
    undisturbed, outcome = train("lm", tmp_path / "undisturbed", setting)
    run = MemoryRun(tmp_path / "interrupted")
    for stop_at in (5, 8, 17):
        with pytest.raises(Preempted):
            train("lm", run.folder, setting, run=run, stop_at=stop_at)
    _, resumed = train("lm", run.folder, setting, run=run)
    assert run.points == undisturbed.points
    assert run.tags == undisturbed.tags
    assert run.files["samples.json"] == undisturbed.files["samples.json"]
    assert resumed == outcome


def test_a_training_that_was_stopped_after_its_last_step_only_registers(tmp_path: Path) -> None:
    run = MemoryRun(tmp_path)
    with pytest.raises(Preempted):
        train("lm", tmp_path, run=run, stop_at=STEPS)
    assert not run.registered
    points = dict(run.points)
    _, outcome = train("lm", tmp_path, run=run)
    assert run.points == points
    assert run.registered == [("gpt", "challenger")]
    assert [outcome.metrics["validation/loss"]] == run.values("validation/loss")[-1:]


def test_more_than_one_epoch(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh " * 100)
    run = train_without_end("lm", tmp_path, f"data.uri={text}", "steps=100", "model.layers=1")
    assert len(run.values("train/loss")) == 100
    assert run.values("validation/loss")[-1] < 0.5


def test_your_own_text_is_described(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Grüße. " * 1000)
    made = trainer("lm", f"data.uri={text}")
    assert made.dataset["bytes"] == len(text.read_bytes())
    assert made.dataset_version.startswith("sha256:")
    assert made.dataset_version != trainer("lm").dataset_version


def test_a_batch_that_cannot_be_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh " * 100)
    with pytest.raises(ConfigError, match="batch_size=64: the text has only 50 sequences of 16 bytes"):
        trainer("lm", f"data.uri={text}", "batch_size=64")
    two = World(size=2, device=torch.device("cpu"))
    with pytest.raises(
        ConfigError, match=r"batch_size=8: 2 process\(es\) that accumulate 5 part\(s\) need at least 10"
    ):
        trainer("lm", "accumulate=5", world=two)


def test_two_processes_train_as_one_does(trained: MemoryRun, laptop: Laptop) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = [part for setting in (*SMALL, *SMALL_MODEL, "accumulate=2") for part in ("--set", setting)]
    processes = [
        laptop.start(
            "lm",
            *settings,
            TRAINYARD_TRACKING="json",
            RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in (0, 1)
    ]
    ended = [laptop.wait(process) for process in processes]
    assert [each.code for each in ended] == [0, 0], ended
    run = laptop.json_run("lm")
    for key in ("train/loss", "grad_norm", "validation/loss"):
        values = [value for _, name, value in sorted(run["points"]) if name == key]
        assert values == pytest.approx(trained.values(key), rel=1e-3)
