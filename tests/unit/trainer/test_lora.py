"""Training an adapter, recorded in memory."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from trainyard.checkpoint import Preempted
from trainyard.distributed import parameter_hash
from trainyard.errors import ConfigError
from trainyard.tasks.lm.saved import load_base
from trainyard.tasks.lora.train import LoraTrainer

from tests.unit.trainer.lm_trainings import STEPS, MemoryRun, continue_training, train, train_without_end, trainer

CODE = "def name(value):\n    return value + 1\n\n\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the task lm, of English."""
    folder = tmp_path_factory.mktemp("base")
    train("lm", folder, "steps=60")
    return folder / "model"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text that a model of English does not know."""
    file = tmp_path_factory.mktemp("code") / "code.txt"
    file.write_text(CODE * 200)
    return file


@pytest.fixture(scope="module")
def settings(base: Path, code: Path) -> tuple[str, ...]:
    return (f"base.model={base}", f"data.uri={code}")


@pytest.fixture(scope="module")
def trained(settings: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> MemoryRun:
    run, _ = train("lora", tmp_path_factory.mktemp("adapter"), *settings)
    return run


def test_the_adapter_lowers_the_loss_of_the_base(trained: MemoryRun) -> None:
    (base_loss,) = trained.values("validation/base_loss")
    losses = trained.values("validation/loss")
    assert losses[-1] < base_loss - 0.1
    assert losses == sorted(losses, reverse=True)


def test_only_the_adapter_is_saved(trained: MemoryRun) -> None:
    folder = trained.folder / "adapter"
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    saved = load_file(folder / "adapter_model.safetensors")
    assert all(".lora_A." in name or ".lora_B." in name for name in saved)
    # Four layers in each of the two blocks.
    assert len(saved) == 2 * 4 * 2
    assert sum(value.numel() for value in saved.values()) == trained.params["adapter.parameters"]
    assert 0 < trained.params["adapter.share"] < 1
    assert not (trained.folder / "model/base").exists()


def test_the_adapter_says_what_it_belongs_to(trained: MemoryRun, base: Path) -> None:
    described = json.loads((trained.folder / "adapter/adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(base)
    assert trained.tags["trainyard.base"] == str(base)
    assert trained.tags["trainyard.base_hash"] == parameter_hash(load_base(base, "base.model"))


def test_the_served_model_is_base_and_adapter_merged(trained: MemoryRun, base: Path) -> None:
    tokens = torch.randint(256, (3, 16), generator=torch.Generator().manual_seed(0))
    adapted = peft.PeftModel.from_pretrained(load_base(base, "base.model"), str(trained.folder / "adapter")).eval()
    served = mlflow.pyfunc.load_model(str(trained.folder / "model")).predict(tokens.numpy())
    with torch.no_grad():
        assert np.allclose(served, adapted(tokens).numpy(), atol=1e-4)
        with adapted.disable_adapter():
            assert not np.allclose(served, adapted(tokens).numpy(), atol=0.1)
    assert (trained.folder / "model/adapter/adapter_model.safetensors").is_file()


def test_an_interrupted_training_gives_the_same_bits(
    trained: MemoryRun, settings: tuple[str, ...], tmp_path: Path
) -> None:
    run = MemoryRun(tmp_path)
    for stop_at in (3, 16, STEPS):
        with pytest.raises(Preempted):
            train("lora", tmp_path, *settings, run=run, stop_at=stop_at)
    train("lora", tmp_path, *settings, run=run)
    assert run.points == trained.points
    assert run.tags == trained.tags


def test_a_checkpoint_holds_no_weight_of_the_base(settings: tuple[str, ...]) -> None:
    made = trainer("lora", *settings)
    assert isinstance(made, LoraTrainer)
    state = made._adapter.state_dict()
    assert all("lora_" in name for name in state["weights"])
    assert set(state) == {"base", "weights"}


def test_a_checkpoint_of_another_base_is_refused(base: Path, code: Path, tmp_path: Path) -> None:
    """An alias may have moved while the training was interrupted."""
    moving = tmp_path / "base"
    shutil.copytree(base, moving)
    settings = (f"base.model={moving}", f"data.uri={code}")
    with pytest.raises(Preempted):
        train("lora", tmp_path / "run", *settings, stop_at=3)
    shutil.rmtree(moving)
    run, _ = train("lm", tmp_path / "other", "steps=5", "seed=3")
    (run.folder / "model").rename(moving)
    with pytest.raises(ConfigError, match=r"base\.model: this training began on a base with the hash sha256:"):
        train("lora", tmp_path / "run", *settings)


def test_a_base_that_changes_is_noticed(settings: tuple[str, ...], tmp_path: Path) -> None:
    made = trainer("lora", *settings)
    assert isinstance(made, LoraTrainer)
    run = MemoryRun(tmp_path)
    original = run.log_metrics

    def log_metrics(metrics: Any, *, step: int) -> None:
        original(metrics, step=step)
        if step == 2:
            with torch.no_grad():
                made._adapter.model.get_parameter("base_model.model.norm.weight")[0] += 1e-3

    run.log_metrics = log_metrics  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"the weights of the base .* changed while the adapter was trained"):
        continue_training(made, tmp_path, run=run)
    assert not run.registered


@pytest.mark.parametrize(
    "setting",
    ["adapter.rank=2", "adapter.alpha=4", "adapter.dropout=0.3", "adapter.target_modules=qkv", "seed=1"],
)
def test_settings_reach_the_training(
    setting: str, trained: MemoryRun, settings: tuple[str, ...], tmp_path: Path
) -> None:
    run = train_without_end("lora", tmp_path, *settings, setting)
    assert run.values("validation/loss") != trained.values("validation/loss")


def test_target_modules_choose_the_layers(settings: tuple[str, ...], tmp_path: Path) -> None:
    run, _ = train("lora", tmp_path, *settings, "adapter.target_modules=attention.out", "steps=5")
    saved = load_file(run.folder / "adapter/adapter_model.safetensors")
    assert {name.split(".lora_")[0].split("blocks.")[1][2:] for name in saved} == {"attention.out"}


def test_layers_that_the_base_does_not_have_are_refused(settings: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"no linear layer query, w; it has attention\.qkv, attention\.out, feed"):
        trainer("lora", *settings, "adapter.target_modules=qkv,query,w")


def test_a_directory_without_a_base_is_refused(tmp_path: Path, trained: MemoryRun) -> None:
    with pytest.raises(ConfigError, match="there is no such directory"):
        trainer("lora", f"base.model={tmp_path}/none")
    with pytest.raises(ConfigError, match=r"has no config\.json and no model\.safetensors"):
        trainer("lora", f"base.model={tmp_path}")
    with pytest.raises(ConfigError, match="must be a model that the task lm trained"):
        trainer("lora", f"base.model={trained.folder / 'model'}")


def test_a_base_of_another_vocabulary_is_refused(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "base"
    shutil.copytree(base / "base", other)
    (other / "config.json").write_text(json.dumps({"vocabulary": "words"}))
    with pytest.raises(ConfigError, match="the vocabulary of this model is not bytes"):
        trainer("lora", f"base.model={other}")
