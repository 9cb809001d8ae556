"""The confusion matrix as a picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from trainyard.reports.picture import new_figure, png

_LEGIBLE = 20
"""Classes up to which there is room for a number in each field."""


def confusion_matrix_png(labels: NDArray[np.int64], predictions: NDArray[np.int64], *, classes: Sequence[str]) -> bytes:
    """A PNG of 800x800 pixels: counts of (true class, predicted class).

    Args:
        labels: shape (n,), 0 to the number of classes - 1.
        predictions: shape (n,), the same.
        classes: their names.
    """
    counts = confusion_matrix(labels, predictions, labels=np.arange(len(classes)))
    figure = new_figure(800, 800)
    axes = figure.add_subplot(
        xlabel="predicted",
        ylabel="true",
        title=f"{np.trace(counts)} of {counts.sum()} right",
    )
    axes.imshow(counts, cmap="Blues")
    if len(classes) <= _LEGIBLE:
        slanted = max(map(len, classes)) > 3
        axes.set_xticks(
            range(len(classes)), classes, rotation=45 if slanted else 0, ha="right" if slanted else "center"
        )
        axes.set_yticks(range(len(classes)), classes)
        dark = counts.max() / 2
        for (row, column), count in np.ndenumerate(counts):
            axes.text(column, row, str(count), ha="center", va="center", color="white" if count > dark else "black")
    return png(figure)
