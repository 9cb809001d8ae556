"""Pictures without a display, and without pyplot's global state."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 100


def new_figure(width: int, height: int) -> Figure:
    """An empty figure; size in pixels."""
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="tight")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a file's content."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
