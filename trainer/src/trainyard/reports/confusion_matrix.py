"""The confusion matrix as a picture."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix


def confusion_matrix_png(labels: NDArray[np.int64], predictions: NDArray[np.int64], *, classes: int) -> bytes:
    """A PNG of 800x800 pixels: counts of (true class, predicted class).

    Args:
        labels: shape (n,), 0 to classes - 1.
        predictions: shape (n,), 0 to classes - 1.
        classes: number of classes.
    """
    counts = confusion_matrix(labels, predictions, labels=np.arange(classes))
    figure = Figure(figsize=(8, 8), dpi=100, layout="tight")
    FigureCanvasAgg(figure)  # no display, and none of pyplot's global state
    axes = figure.add_subplot(
        xticks=range(classes),
        yticks=range(classes),
        xlabel="predicted",
        ylabel="true",
        title=f"{np.trace(counts)} of {counts.sum()} right",
    )
    axes.imshow(counts, cmap="Blues")
    dark = counts.max() / 2
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, str(count), ha="center", va="center", color="white" if count > dark else "black")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
