"""Training and validation, epoch by epoch, as a picture."""

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from trainyard.reports.picture import new_figure, png

Curve = Sequence[tuple[float, float]]
"""Points (x, value), x rising."""


def learning_curve_png(panels: Mapping[str, Mapping[str, Curve]], *, x: str = "epoch") -> bytes:
    """A PNG, 600 pixels high and 700 wide for each panel: side by side, such as loss and accuracy; in each its named curves.

    Args:
        panels: for each panel, by the name of what it measures, its curves by their names, such as train and validation.
        x: what the points are counted in.
    """
    figure = new_figure(700 * len(panels), 600)
    for index, (measure, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), index, xlabel=x, ylabel=measure)
        for name, curve in curves.items():
            # A single point makes no line.
            axes.plot([point[0] for point in curve], [point[1] for point in curve], marker=".", label=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return png(figure)
