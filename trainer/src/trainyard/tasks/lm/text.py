"""Text as bytes: where it comes from, how it is divided, and what the network is given of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from trainyard.data import corpus
from trainyard.errors import ConfigError
from trainyard.provenance import dataset_version
from trainyard.tasks.lm.config import DataConfig

VOCABULARY: Final = 256
"""A token is a byte of UTF-8: no text has an unknown one, and there is no vocabulary to be kept with a model."""
_MODULES = ("argparse", "dataclasses", "difflib", "inspect", "statistics", "subprocess", "tarfile", "typing")


@dataclass(frozen=True, slots=True)
class Text:
    """A text, divided; the bytes as a tensor of type uint8."""

    train: Tensor
    validation: Tensor
    version: str
    """Hash of its content, or what DVC says."""
    statistics: Mapping[str, Any]
    """For `dataset.json`."""


def language_reference() -> bytes:
    """The reference of the Python language, as `help("while")` shows it: 520 KB of English with examples.

    It comes with Python, is real, and is the same wherever the same version of Python is.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)).encode()


def standard_library() -> bytes:
    """The source of some modules of Python's standard library: 780 KB of Python with docstrings."""
    files = [Path(spec.origin) for name in _MODULES if (spec := find_spec(name)) and spec.origin]
    return b"\n\n".join(file.read_bytes() for file in files)


def load(config: DataConfig, own: Callable[[], bytes]) -> Text:
    """What `config` names, else `own()`. Raises ConfigError if it cannot be read."""
    if config.uri:
        found = corpus(config.uri)
        return _divide(found.text.encode(), config, found.version, found.statistics)
    content = own()
    version = dataset_version(np.frombuffer(content, dtype=np.uint8))
    return _divide(content, config, version, {"source": own.__name__.replace("_", " ")})


def _divide(content: bytes, config: DataConfig, version: str, statistics: Mapping[str, Any]) -> Text:
    """The end of the text is for validation: sequences from between those of training would be too easy."""
    tokens = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    border = round(len(tokens) * (1 - config.validation_fraction))
    train, validation = tokens[:border], tokens[border:]
    counts = {"bytes": len(tokens), "train_bytes": len(train), "validation_bytes": len(validation)}
    return Text(train, validation, version, {**statistics, **counts})


class Sequences:
    """A part of a text on the device, whole, as sequences that follow each other."""

    def __init__(self, tokens: Tensor, context: int, device: torch.device) -> None:
        """Raises ConfigError if there is not one sequence."""
        self._tokens = tokens.to(device)
        self._offsets = torch.arange(context + 1, device=device)
        self.context = context
        # Each has one byte more, which is only predicted; it begins the next one.
        self.count = (len(tokens) - 1) // context
        if self.count < 1:
            raise ConfigError(
                f"model.context={context}: a part of the text has only {len(tokens)} bytes; use a longer text, a smaller "
                "context, or another data.validation_fraction"
            )

    def get(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The sequences at `positions`, shape (n,), and what is to be predicted: both int64 of shape (n, context)."""
        starts = positions.to(self._tokens.device) * self.context
        chosen = self._tokens[starts.unsqueeze(1) + self._offsets].long()
        return chosen[:, :-1], chosen[:, 1:]
