"""Spools as the tests make and read them."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard.spool.folder import SpoolFolder
from trainyard.spool.reader import SpoolReader
from trainyard.spool.records import End, Metrics, Record, Start
from trainyard.spool.writer import SpoolWriter

DONE = End(status="FINISHED", reason="finished", time_ms=2000)


def start(*backends: str, **fields: Any) -> Start:
    known: dict[str, Any] = {"uid": uuid.uuid4().hex, "name": "n", "experiment": "e", "tags": {}, "time_ms": 1000}
    return Start(backends=backends or ("json",), **{**known, **fields})


def write(parent: Path, begin: Start | None = None, **options: Any) -> SpoolWriter:
    warn: Callable[[str], None] = options.pop("warn", print)
    return SpoolWriter.create(parent, begin or start(), warn=warn, **options)


def abandon(writer: SpoolWriter) -> None:
    """As if its process had been killed: nothing is written or closed, but the kernel has taken back the lock."""
    writer.folder.released()
    writer.folder.path.joinpath("writer.lock").unlink()


def read(folder: SpoolFolder, *, gone: bool = True) -> list[Record]:
    reader = SpoolReader(folder)
    found: list[Record] = []
    while records := reader.read(points=1000, writer_gone=gone):
        found += records
    return found


def points(records: list[Record]) -> list[tuple[int, str, float]]:
    return [
        (record.step, key, value) for record in records if isinstance(record, Metrics) for key, value in record.values
    ]
