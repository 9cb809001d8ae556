"""Running text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.data.plain_text import read_text
from trainyard.data.source import opened
from trainyard.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """One long text."""

    text: str
    version: str
    """`dvc:` or `sha256:` and 12 hex digits."""
    statistics: Mapping[str, Any]
    """For `dataset.json`."""


def corpus(uri: str) -> Corpus:
    """What is at `uri`: a .txt file, or a directory of them, which are joined in the order of their names, each from a line of its own.

    Raises ConfigError if there is no text.
    """
    with opened(uri, (".txt",)) as source:
        texts = [read_text(file) for file in source.files]
    for file, text in zip(source.files, texts, strict=True):
        if not text.strip():
            raise ConfigError(f"{file.name}: the text is blank")
    text = "".join(part if part.endswith("\n") else f"{part}\n" for part in texts[:-1]) + texts[-1]
    statistics = {
        **source.describe(),
        "characters": len(text),
        "different_characters": len(set(text)),
        "lines": len(text.splitlines()),
    }
    return Corpus(text=text, version=source.version, statistics=statistics)
