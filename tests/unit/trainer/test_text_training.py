"""The small BERT, recorded in memory."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from trainyard.config import configure
from trainyard.errors import ConfigError
from trainyard.tasks.text.config import ModelConfig, TextConfig
from trainyard.tasks.text.model import TextClassifier, parameter_groups
from trainyard.tracking.models import save_model

from tests.unit.trainer.trainings import MemoryRun, finished, write_texts

QUICK = ("epochs=4", "batch_size=32", "model.layers=1", "model.dropout=0.1", "vocabulary.length=10", "lr=0.003")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MemoryRun:
    folder = tmp_path_factory.mktemp("text")
    texts = write_texts(folder / "texts.csv", 600)
    return finished("text", *QUICK, f"data.uri={texts}", folder=folder / "checkpoints")


def test_it_learns(trained: MemoryRun) -> None:
    losses = trained.values("train/loss_epoch")
    assert losses[-1] < losses[0] / 2
    assert trained.values("test/accuracy")[0] > 0.9, "a third would be chance"
    assert trained.values("test/macro_f1")[0] > 0.9


def test_it_learns_what_docstrings_are_about(tmp_path: Path) -> None:
    """Six families: a sixth would be chance, and the largest has a fifth of all."""
    run = finished("text", "epochs=3", "vocabulary.length=20", "lr=0.004", "model.dropout=0.1", folder=tmp_path)
    assert run.values("test/accuracy")[0] > 0.5
    assert run.values("test/macro_f1")[0] > 0.5


def test_the_learning_rate_rises_and_falls(trained: MemoryRun) -> None:
    rates = trained.values("train/lr")
    highest = int(np.argmax(rates))
    assert len(rates) == 4 * 14  # 420 texts to train on
    assert highest == round(0.1 * len(rates))
    assert rates[highest] == 0.003
    assert rates[0] == 0
    assert np.all(np.diff(rates[: highest + 1]) > 0)
    assert np.all(np.diff(rates[highest:]) < 0)


def test_steps_and_epochs_are_recorded(trained: MemoryRun) -> None:
    for name in ("train/loss", "train/accuracy"):
        assert [step for key, step in trained.metrics if key == name] == list(range(1, 57))
    for name in ("train/loss_epoch", "train/accuracy_epoch", "validation/loss", "validation/accuracy"):
        assert [step for key, step in trained.metrics if key == name] == [1, 2, 3, 4]


def test_sample_predictions_can_be_read(trained: MemoryRun) -> None:
    samples = json.loads(trained.files["sample_predictions.json"])
    assert len(samples) == 20
    words = {
        "rail": {"train", "track", "signal"},
        "sea": {"ship", "harbour", "tide"},
        "air": {"plane", "wing", "cloud"},
    }
    for sample in samples:
        assert words[sample["label"]] & set(sample["text"].split())
    assert trained.files["confusion_matrix.png"].startswith(b"\x89PNG")


def test_the_vocabulary_is_kept(trained: MemoryRun) -> None:
    vocabulary = json.loads(trained.files["vocabulary.json"])
    assert vocabulary["words"][:3] == ["[PAD]", "[UNK]", "[CLS]"]
    assert {"train", "ship", "plane"} <= set(vocabulary["words"])
    assert vocabulary["length"] == 10
    # The example that is kept with the model, in words.
    first = [vocabulary["words"][token] for token in trained.model_settings["input_example"][0]]
    assert first[0] == "[CLS]"


def test_the_saved_model_predicts_like_the_trained_one(trained: MemoryRun, tmp_path: Path) -> None:
    """Also other texts than the example, and another number of them."""
    example = trained.model_settings["input_example"]
    save_model(trained.model, tmp_path / "model", input_example=example)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    tokens = np.random.default_rng(0).integers(3, 10, (7, 10))
    tokens[:, 6:] = 0
    with torch.no_grad():
        expected = trained.model.eval()(torch.as_tensor(tokens)).numpy()
    np.testing.assert_allclose(loaded.predict(tokens), expected, atol=1e-5)
    assert len(loaded.predict(tokens[:1])) == 1
    assert loaded.metadata.signature is not None


def test_what_is_padded_does_not_matter() -> None:
    torch.manual_seed(0)
    model = TextClassifier(ModelConfig(), words=20, length=8, classes=2).eval()
    whole = model.network(input_ids=torch.tensor([[2, 5, 6]])).logits
    torch.testing.assert_close(model(torch.tensor([[2, 5, 6, 0, 0]])), whole)


def test_biases_and_norms_do_not_decay() -> None:
    model = TextClassifier(ModelConfig(), words=20, length=8, classes=2)
    decaying, others = parameter_groups(model, 0.1)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    left = {names[id(each)] for each in others["params"]}  # type: ignore[attr-defined]
    assert left == {name for name in names.values() if name.endswith(".bias") or "LayerNorm" in name}
    assert len(left) + len(decaying["params"]) == len(names)  # type: ignore[arg-type]


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.width=64: must be a multiple of model.heads, which is 5"):
        configure(TextConfig, ["model.heads=5"])
