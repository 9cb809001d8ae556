"""Texts with a label each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.data import tables
from trainyard.data.arrays import LABEL, count_classes
from trainyard.data.labels import Labels
from trainyard.data.plain_text import read_text
from trainyard.data.source import DataFile, Source, opened
from trainyard.errors import ConfigError

TEXT: Final = "text"
"""The column with the texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledTexts:
    """n examples."""

    texts: Sequence[str]
    """n of them; none is blank."""
    labels: NDArray[np.int64]
    """Shape (n,), 0 to classes - 1."""
    class_names: tuple[str, ...]
    """In the order of the labels; their numbers where they have no names."""
    version: str
    """`dvc:` or `sha256:` and 12 hex digits."""
    statistics: Mapping[str, Any]
    """For `dataset.json`."""

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.class_names)


def labelled_texts(uri: str) -> LabelledTexts:
    """What is at `uri`: a .csv or .parquet table with columns `text` and `label`, a directory of such files of one kind, or a
    directory that has a directory with .txt files for each class.

    Raises ConfigError if the data cannot be trained on; the message names file, row, value and remedy.
    """
    collected, labels = _Texts(uri), Labels(uri)
    with opened(uri, (*tables.KINDS, ".txt"), class_folders=True) as source:
        for file in source.files:
            _take(file, source, collected, labels)
    collected.refuse_blank()
    numbers, class_names = labels.encoded()
    return LabelledTexts(
        texts=collected.texts,
        labels=numbers,
        class_names=class_names,
        version=source.version,
        statistics={
            **source.describe(),
            "examples": len(numbers),
            "examples_per_class": count_classes(numbers, class_names),
            "characters": _lengths(collected.texts),
        },
    )


def _take(file: DataFile, source: Source, texts: "_Texts", labels: Labels) -> None:
    if file.kind != ".txt":
        for rows in tables.read(file, needs=[TEXT, LABEL], as_text=[TEXT, LABEL], only_needed=True):
            texts.add(rows.frame[TEXT], rows.place)
            labels.add(rows.frame[LABEL].to_numpy(), rows.place)
        return
    if file.path.parent in (source.path, source.path.parent):
        raise ConfigError(
            f"{file.name}: has no label; use a .csv or .parquet with columns {TEXT} and {LABEL}, or put .txt files into a "
            "directory for each class"
        )
    texts.add([read_text(file)], lambda _: file.name)
    labels.add_names(np.array([file.folder], dtype=object), lambda _: file.name)


class _Texts:
    """Collects texts, and counts the blank ones."""

    def __init__(self, uri: str) -> None:
        self.texts: list[str] = []
        self._uri = uri
        self._blank = 0
        self._first = ""

    def add(self, cells: Iterable[object], place: Callable[[int], str]) -> None:
        for position, cell in enumerate(cells):
            if isinstance(cell, str) and cell.strip():
                self.texts.append(cell)
            elif isinstance(cell, str) or pd.isna(cell):
                self._blank += 1
                self._first = self._first or place(position)
            else:
                raise ConfigError(f"{place(position)}: column {TEXT} is {cell!r}; must be a text")

    def refuse_blank(self) -> None:
        """Raises ConfigError if there was one."""
        if self._blank:
            texts = "1 text is" if self._blank == 1 else f"{self._blank} texts are"
            raise ConfigError(f"{self._uri}: {texts} missing or blank, first in {self._first}; leave such examples out")


def _lengths(texts: Sequence[str]) -> Mapping[str, float]:
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return {
        "min": int(lengths.min()),
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "max": int(lengths.max()),
    }
