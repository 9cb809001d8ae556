"""From labels as somebody wrote them to class numbers."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.errors import ConfigError

_SHOWN: Final = 10
LEAST_EXAMPLES: Final = 10


class Labels:
    """The labels of a data set, collected part by part: either all are class numbers, or all are names."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._numbers: list[NDArray[np.int64]] = []
        self._names: list[NDArray[np.object_]] = []

    def add(self, values: NDArray[Any], place: Callable[[int], str]) -> None:
        """Shape (n,); `place` gives the name of a position. Raises ConfigError for a value that can be no label."""
        if values.dtype.kind in "OUS":
            names = np.array([_text(value) for value in values], dtype=object)
            _refuse(names == "", values, place, "is missing")
            # Of a csv all are texts.
            numbers = pd.to_numeric(pd.Series(names), errors="coerce").to_numpy()
            if np.isnan(numbers).all():
                self.add_names(names, place)
                return
            _refuse(
                np.isnan(numbers),
                values,
                place,
                "{} is a name, while others are numbers: make all of them one or the other",
            )
            values = numbers
        self._add_numbers(values, place)

    def add_names(self, names: NDArray[np.object_], place: Callable[[int], str]) -> None:
        """The same of names that are no class numbers even where they look so. None is empty."""
        if self._numbers:
            raise ConfigError(
                f"{place(0)}: the label {names[0]} is a name, while earlier ones are numbers: make all of them one or the other"
            )
        self._names.append(names)

    def encoded(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Class numbers of shape (n,), and the names of the classes. Names get numbers in sorted order.

        Raises ConfigError if class numbers have gaps, or there are too few examples or classes.
        """
        if self._numbers:
            labels = np.concatenate(self._numbers)
            self._check_gaps(labels)
            names = tuple(str(number) for number in range(labels.max() + 1))
        else:
            found, labels = np.unique(np.concatenate(self._names), return_inverse=True)
            names = tuple(str(name) for name in found)
        if len(labels) < LEAST_EXAMPLES:
            raise ConfigError(
                f"{self._uri}: has {len(labels)} examples; at least {LEAST_EXAMPLES} are needed, to train, to validate and to test"
            )
        if len(names) < 2:
            raise ConfigError(f"{self._uri}: every label is {names[0]}; at least two classes are needed")
        return labels.astype(np.int64, copy=False), names

    def _add_numbers(self, values: NDArray[Any], place: Callable[[int], str]) -> None:
        if values.dtype.kind not in "biuf":
            raise ConfigError(f"{place(0)}: labels are of type {values.dtype}; must be class numbers or names")
        if self._names:
            raise ConfigError(
                f"{place(0)}: the label {values[0]} is a number, while earlier ones are names: make all of them one or the other"
            )
        if values.dtype.kind == "f":
            _refuse(np.isnan(values), values, place, "is missing")
            _refuse(values != np.floor(values), values, place, "{} is not whole; class numbers are 0, 1, 2 and so on")
        _refuse(values < 0, values, place, "{} is negative; class numbers are 0, 1, 2 and so on")
        _refuse(values > np.iinfo(np.int32).max, values, place, "{} is too large for a class number")
        self._numbers.append(values.astype(np.int64))

    def _check_gaps(self, labels: NDArray[np.int64]) -> None:
        found = np.unique(labels)
        gaps = np.flatnonzero(found != np.arange(len(found)))
        if len(gaps):
            shown = ", ".join(map(str, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
            raise ConfigError(
                f"{self._uri}: labels are {shown}: class numbers must be 0, 1, 2 and so on, and {gaps[0]} is missing; number "
                "the classes anew, or give them names"
            )


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # NaN
        return ""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def _refuse(wrong: NDArray[np.bool_], values: NDArray[Any], place: Callable[[int], str], why: str) -> None:
    positions = np.flatnonzero(wrong)
    if len(positions):
        count = f" ({len(positions)} such labels)" if len(positions) > 1 else ""
        raise ConfigError(f"{place(positions[0])}: the label {why.format(values[positions[0]])}{count}")
