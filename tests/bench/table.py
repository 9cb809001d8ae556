"""What a part prints: a line for each comparison."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """Ours beside one peer."""

    what: str
    ours: str
    peer: str
    ratio: str
    """How many times better ours is."""
    goal: str = ""


_HEADING = Row("what", "ours", "peer", "ratio", "goal")


def show(title: str, rows: Sequence[Row], *notes: str) -> None:
    """Print the rows in columns, then the notes."""
    cells = [astuple(row) for row in (_HEADING, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    rule = "  ".join("-" * width for width in widths)
    print("\n".join(["", title, "", lines[0], rule, *lines[1:], *(f"  {note}" for note in notes)]), flush=True)


def times_better(ours: float, peer: float) -> str:
    """By how much the smaller of two times, or the larger of two rates, is ours."""
    ratio = peer / ours
    return f"{ratio:,.0f}x" if ratio >= 20 else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"


def verdict(goal: str, met: bool) -> str:
    """The goal, and whether this run reached it."""
    return f"{goal}: {'met' if met else 'MISSED'}"
