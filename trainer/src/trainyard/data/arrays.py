"""Labelled examples that are arrays of numbers."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.data import tables
from trainyard.data.labels import Labels
from trainyard.data.numbers import NotFinite, joined, summary
from trainyard.data.source import DataFile, opened
from trainyard.errors import ConfigError

LABEL: Final = "label"
"""The column with the labels."""
_FEATURE_ARRAYS: Final = ("x", "features", "images")
_LABEL_ARRAYS: Final = ("y", "labels")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledArrays:
    """n examples."""

    features: NDArray[np.float32]
    """Shape (n, ...), as they were: not scaled."""
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


def labelled_arrays(uri: str, *, shape: tuple[int, ...] | None = None) -> LabelledArrays:
    """What is at `uri`: an .npz with arrays `x` and `y` (or `features`, `images`; `labels`), a .csv or .parquet table with a column
    `label` and numbers in all others, or a directory of such files of one kind, which are joined in the order of their names.

    `shape`: what one example must have; rows of a table are brought to it, arrays only if they are flat or differ in axes of length 1.
    Raises ConfigError if the data cannot be trained on; the message names file, place, value and remedy.
    """
    labels, not_finite = Labels(uri), NotFinite(uri)
    parts: list[NDArray[np.float32]] = []
    columns: Sequence[str] | None = None
    with opened(uri, (".npz", *tables.KINDS)) as source:
        for file in source.files:
            for part in _parts(file, columns):
                columns = part.columns
                labels.add(part.labels, part.place)
                not_finite.look_at(part.features, part.place_of_number)
                parts.append(_shaped(part, shape, parts))
    not_finite.refuse()
    numbers, class_names = labels.encoded()
    features = joined(parts)
    return LabelledArrays(
        features=features,
        labels=numbers,
        class_names=class_names,
        version=source.version,
        statistics={
            **source.describe(),
            "examples": len(numbers),
            "shape": list(features.shape[1:]),
            "examples_per_class": count_classes(numbers, class_names),
            "features": summary(features),
        },
    )


def count_classes(labels: NDArray[np.int64], class_names: Sequence[str]) -> Mapping[str, int]:
    """Examples of each class, by its name."""
    return dict(zip(class_names, np.bincount(labels, minlength=len(class_names)).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Some examples of one file."""

    name: str
    features: NDArray[np.float32]
    labels: NDArray[Any]
    place: Callable[[int], str]
    columns: Sequence[str] | None = None
    """Names of a table's features."""

    def place_of_number(self, example: int, position: int) -> str:
        return self.place(example) + (f", column {self.columns[position]}" if self.columns else "")


def _parts(file: DataFile, columns: Sequence[str] | None) -> Iterator[_Part]:
    """`columns`: of the files before this one."""
    if file.kind == ".npz":
        yield _of_npz(file)
        return
    for rows in tables.read(file, needs=[LABEL], as_text=[LABEL]):
        part = _of_rows(rows, columns)
        columns = part.columns
        yield part


def _of_rows(rows: tables.Rows, columns: Sequence[str] | None) -> _Part:
    own = [str(name) for name in rows.frame.columns if name != LABEL]
    if not own:
        raise ConfigError(f"{rows.name}: has no column beside {LABEL}")
    if columns and set(own) != set(columns):
        (odd, *_) = sorted(set(own) ^ set(columns))
        raise ConfigError(f"{rows.name}: column {odd} is not in every file; all must have the same columns")
    columns = columns or own
    features = np.empty((len(rows.frame), len(columns)), dtype=np.float32)
    with np.errstate(over="ignore"):  # what is infinite as float32 is told later
        for position, name in enumerate(columns):
            features[:, position] = _numbers(rows, name)
    return _Part(
        name=rows.name,
        features=features,
        labels=rows.frame[LABEL].to_numpy(),
        place=rows.place,
        columns=columns,
    )


def _numbers(rows: tables.Rows, name: str) -> NDArray[Any]:
    """A column, NaN where a cell is empty."""
    column = rows.frame[name]
    if not pd.api.types.is_numeric_dtype(column):
        cells = column.astype(object)
        # As texts: pandas has numbers for dates.
        column = pd.to_numeric(cells.where(cells.isna(), cells.astype(str)), errors="coerce")
        wrong = np.flatnonzero(column.isna() & cells.notna())
        if len(wrong):
            raise ConfigError(
                f"{rows.place(wrong[0])}: column {name} is {str(cells.iloc[wrong[0]])!r}; must be a number"
            )
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _of_npz(file: DataFile) -> _Part:
    try:
        archive = np.load(file.path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ConfigError(f"{file.name}: is a single array; write it with numpy.savez(FILE, x=..., y=...)")
        with archive:
            inputs, found = _one_of(archive, _FEATURE_ARRAYS, file), _one_of(archive, _LABEL_ARRAYS, file)
            features, labels = archive[inputs], archive[found]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{file.name}: is no .npz that can be read: {' '.join(str(error).split())}") from error
    if features.dtype.kind not in "biuf":
        raise ConfigError(f"{file.name}: array {inputs} is of type {features.dtype}; must be numbers")
    if features.ndim < 2:
        raise ConfigError(f"{file.name}: array {inputs} has shape {features.shape}; must be (examples, ...)")
    if labels.shape != features.shape[:1]:
        raise ConfigError(
            f"{file.name}: array {found} has shape {labels.shape}; must be {features.shape[:1]}, a label for each of {inputs}"
        )
    if features.size == 0:
        raise ConfigError(f"{file.name}: array {inputs} is empty, it has shape {features.shape}")
    with np.errstate(over="ignore"):
        features = features.astype(np.float32, copy=False)
    return _Part(
        name=file.name, features=features, labels=labels, place=lambda position: f"{file.name}: {inputs}[{position}]"
    )


def _one_of(archive: Any, names: Sequence[str], file: DataFile) -> str:
    found = [name for name in names if name in archive.files]
    if len(found) != 1:
        held = ", ".join(archive.files) or "nothing"
        raise ConfigError(f"{file.name}: holds {held}; must have one array called {' or '.join(names)}")
    return found[0]


def _shaped(part: _Part, shape: tuple[int, ...] | None, earlier: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    found = part.features.shape[1:]
    if shape is None:
        if earlier and earlier[0].shape[1:] != found:
            raise ConfigError(
                f"{part.name}: an example has shape {found}, in the files before it {earlier[0].shape[1:]}"
            )
        return part.features
    flat = len(found) == 1 and found[0] == math.prod(shape)
    if not flat and [length for length in found if length > 1] != [length for length in shape if length > 1]:
        columns = f" ({found[0]} columns beside {LABEL})" if part.columns else ""
        raise ConfigError(f"{part.name}: an example has shape {found}{columns}, expected {shape}")
    return part.features.reshape(-1, *shape)
