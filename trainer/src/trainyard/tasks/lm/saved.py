"""A trained network as files: a model that MLflow serves, and the same weights as a base to go on from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from trainyard.errors import ConfigError
from trainyard.tasks.lm.config import ModelConfig
from trainyard.tasks.lm.model import GPT
from trainyard.tracking.models import save_model

BASE: Final = "base"
"""Folder in the model's: what a served model cannot be trained from, its shape, and weights that any version of torch reads."""
_SHAPE: Final = "config.json"
_WEIGHTS: Final = "model.safetensors"
_EXAMPLES: Final = 2


def save_for_serving(model: GPT, folder: Path) -> None:
    """Write `model` to the new directory `folder` in MLflow's format.

    It takes int64 of shape (n, context), and gives logits of shape (n, context, 256). A shorter text is filled up at its
    end with any byte: a position does not see those after it.
    """
    text = (b"The quick brown fox jumps over the lazy dog. " * (_EXAMPLES * model.context))[: _EXAMPLES * model.context]
    example: NDArray[np.int64] = np.frombuffer(text, dtype=np.uint8).astype(np.int64).reshape(_EXAMPLES, model.context)
    save_model(model, folder, input_example=example)


def save_base(model: GPT, config: ModelConfig, folder: Path) -> None:
    """Add `base/` to `folder`: `config.json` and `model.safetensors`."""
    base = folder / BASE
    base.mkdir()
    (base / _SHAPE).write_text(json.dumps({"vocabulary": "bytes", **asdict(config)}, indent=2))
    save_file({name: value.contiguous().cpu() for name, value in model.state_dict().items()}, base / _WEIGHTS)


def load_base(folder: Path, name: str) -> GPT:
    """The network that `save_base` wrote to `folder`; on the CPU. `name`: of the setting, for messages. Raises ConfigError."""
    base = folder / BASE if (folder / BASE).is_dir() else folder
    missing = [each for each in (_SHAPE, _WEIGHTS) if not (base / each).is_file()]
    if missing:
        raise ConfigError(
            f"{name}: {base} has no {' and no '.join(missing)}; it must be a model that the task lm trained"
        )
    shape = json.loads((base / _SHAPE).read_text())
    if shape.pop("vocabulary", None) != "bytes":
        raise ConfigError(
            f"{name}: the vocabulary of this model is not bytes; it must be a model that the task lm trained"
        )
    model = GPT(ModelConfig(**shape))
    model.load_state_dict(load_file(base / _WEIGHTS))
    return model
