"""Tables: csv and parquet, a part at a time."""

import contextlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from trainyard.data.source import DataFile
from trainyard.errors import ConfigError

KINDS: Final = (".csv", ".parquet")
_ROWS_AT_ONCE: Final = 100_000
"""Of a csv: pandas takes several times the space of the numbers while it reads."""
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a table."""

    name: str
    """Of the file."""
    frame: pd.DataFrame
    before: int
    """Rows of the file that come before these."""

    def place(self, position: int) -> str:
        """What messages call the row at `position` of the frame: the file, and its number; the first below the header is 1."""
        return f"{self.name}: row {self.before + int(position) + 1}"


def read(
    file: DataFile, *, needs: Sequence[str], as_text: Collection[str], only_needed: bool = False
) -> Iterator[Rows]:
    """The rows of a table.

    `needs`: columns that must be there. `as_text`: columns of which a csv's cells are taken as they stand, so that `NA` is a word.
    Raises ConfigError if the file is no table, has no rows, or lacks a column.
    """
    read_frames = _csv if file.kind == ".csv" else _parquet
    columns = list(needs) if only_needed else None
    before = 0
    with _explained(file):
        for frame in read_frames(file, needs, as_text, columns):
            if len(frame):
                yield Rows(file.name, frame, before)
            before += len(frame)
    if before == 0:
        raise ConfigError(f"{file.name}: has no rows")


@contextlib.contextmanager
def _explained(file: DataFile) -> Iterator[None]:
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # fastparquet has no error of its own: it raises whatever a damaged file makes it stumble over
        raise ConfigError(
            f"{file.name}: is no {file.kind[1:]} that can be read: {' '.join(str(error).split())}"
        ) from error


def _csv(
    file: DataFile, needs: Sequence[str], as_text: Collection[str], columns: list[str] | None
) -> Iterator[pd.DataFrame]:
    header = pd.read_csv(file.path, header=None, nrows=1, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    _check_columns(file, header.iloc[0].tolist(), needs)
    with warnings.catch_warnings():
        # A row longer than the header would lose its end.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        with pd.read_csv(
            file.path,
            encoding="utf-8-sig",
            index_col=False,
            usecols=columns,
            chunksize=_ROWS_AT_ONCE,
            converters=dict.fromkeys(as_text, str),
        ) as frames:
            yield from frames


def _parquet(
    file: DataFile, needs: Sequence[str], _as_text: Collection[str], columns: list[str] | None
) -> Iterator[pd.DataFrame]:
    from fastparquet import ParquetFile

    parquet = ParquetFile(str(file.path))
    # The number of a row, which pandas keeps as an index without a name of its own, is no feature.
    index = [
        name for name in parquet.pandas_metadata.get("index_columns", ()) if str(name).startswith(("index", "__index_"))
    ]
    names = [name for name in parquet.columns if name not in index]
    _check_columns(file, names, needs)
    yield from parquet.iter_row_groups(columns=columns or names, index=False)


def _check_columns(file: DataFile, names: Sequence[str], needs: Sequence[str]) -> None:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    for name in needs:
        if name not in names:
            raise ConfigError(f"{file.name}: has no column {name}; its columns: {shown}")
    if "" in names:
        raise ConfigError(
            f"{file.name}: column {names.index('') + 1} has no name; if it numbers the rows, leave it out (pandas: "
            "to_csv(..., index=False))"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{file.name}: has several columns {twice[0]}; their names must differ")
