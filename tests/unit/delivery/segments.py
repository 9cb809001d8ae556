"""An own reading of a spool's bytes, by their description alone."""

import json
import struct
import zlib
from typing import NamedTuple

from trainyard.spool.folder import SpoolFolder

HEADER_BYTES = 64
KEY = 1
"""The kind of record that is no call: it gives a metric its number."""


class Record(NamedTuple):
    """Where a record is in its segment, and what it holds."""

    start: int
    end: int
    body: bytes


def records(data: bytes) -> list[Record]:
    """Each one before the first that is not whole: an own reading of the format."""
    found = []
    at = HEADER_BYTES
    while at + 8 <= len(data):
        length, checksum = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + 8 + length]
        if not 0 < length == len(body) or zlib.crc32(body) != checksum:
            break
        found.append(Record(at, at + 8 + length, body))
        at += 8 + length
    return found


def cursor(folder: SpoolFolder) -> tuple[int, int]:
    """Segment and offset."""
    path = folder.cursor("mlflow")
    stored = json.loads(path.read_bytes()) if path.exists() else {"segment": 1, "offset": 0}
    return stored["segment"], stored["offset"]
