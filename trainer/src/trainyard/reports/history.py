"""What each epoch came to, as a table."""

import csv
import io
from collections.abc import Mapping, Sequence


def history_csv(rows: Sequence[Mapping[str, float]]) -> bytes:
    """CSV with a line of names and one per row; numbers as Python writes them, so that they can be read back exactly.

    Args:
        rows: all with the same names, in the same order.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=rows[0] if rows else (), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()
