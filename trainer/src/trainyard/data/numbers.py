"""Many numbers: where they are not finite, joining parts, a summary; without copies of the whole."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainyard.errors import ConfigError

_NUMBERS_AT_ONCE: Final = 2**17


class NotFinite:
    """Counts the values that are no numbers to train on."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._count = 0
        self._first: str | None = None

    def look_at(self, features: NDArray[np.float32], place: Callable[[int, int], str]) -> None:
        """Shape (n, ...); `place` names an example and a position among its numbers."""
        before = 0
        for block in _blocks(features):
            wrong = np.argwhere(~np.isfinite(block.reshape(len(block), -1)))
            self._count += len(wrong)
            if len(wrong) and self._first is None:
                self._first = place(before + int(wrong[0][0]), int(wrong[0][1]))
            before += len(block)

    def refuse(self) -> None:
        """Raises ConfigError if there was one."""
        if self._count:
            values = "1 value is" if self._count == 1 else f"{self._count} values are"
            raise ConfigError(
                f"{self._uri}: {values} missing, NaN or infinite as float32, first at {self._first}; fill them, or leave "
                "such examples out"
            )


def joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All rows of all parts in one array. Takes the parts out of the list, so that memory does not hold everything twice."""
    if len(parts) == 1:
        return parts.pop()
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=np.float32)
    start = 0
    while parts:
        part = parts.pop(0)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def summary(features: NDArray[np.float32]) -> Mapping[str, Any]:
    """Mean, standard deviation, least and greatest of all numbers."""
    mean = sum(float(block.sum(dtype=np.float64)) for block in _blocks(features)) / features.size
    squares = sum(float(np.square(np.subtract(block, mean, dtype=np.float64)).sum()) for block in _blocks(features))
    return {
        "mean": mean,
        "std": float(np.sqrt(squares / features.size)),
        "min": float(features.min()),
        "max": float(features.max()),
    }


def _blocks(features: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    rows = max(1, _NUMBERS_AT_ONCE * len(features) // max(1, features.size))
    return (features[start : start + rows] for start in range(0, len(features), rows))
