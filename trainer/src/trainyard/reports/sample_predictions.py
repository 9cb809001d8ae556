"""A few predictions to read, the confident mistakes first."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sample_predictions_json(
    indices: NDArray[np.int64],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    *,
    classes: Sequence[str] | None = None,
    describe: Callable[[int], Mapping[str, Any]] | None = None,
    count: int = 20,
) -> bytes:
    """JSON list of at most `count` predictions: mistakes by falling confidence, then right ones in order.

    Args:
        indices: shape (n,), position of each example in the whole dataset.
        labels: shape (n,), true class.
        probabilities: shape (n, classes), rows sum to 1.
        classes: their names, to be written instead of their numbers.
        describe: what else to write of an example, such as its text, by its position 0 to n - 1.
        count: how many to keep.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    right = predicted == labels
    order = np.lexsort((np.where(right, indices, -confidence), right))[:count]

    def name(label: int) -> int | str:
        return label if classes is None else classes[label]

    samples = [
        {
            "index": int(indices[i]),
            **(describe(int(i)) if describe else {}),
            "label": name(int(labels[i])),
            "predicted": name(int(predicted[i])),
            "confidence": round(float(confidence[i]), 4),
            "correct": bool(right[i]),
        }
        for i in order
    ]
    return json.dumps(samples, indent=2, ensure_ascii=False).encode()
