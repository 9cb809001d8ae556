"""Reads the `.wandb` file that an offline run is written to, while it is written to.

The file is a LevelDB log behind 7 bytes of header: blocks of 32 KiB, in them chunks of CRC-32, length, kind, payload.
The library has no reader in Python.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FILE_HEADER: Final = 7
_BLOCK: Final = 32768
_CHUNK_HEADER: Final = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_WINDOW: Final = 32 * 2**20
"""Bytes read at once; more than the longest record that W&B takes."""


class TransactionLog:
    """Goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = _FILE_HEADER

    def new_records(self) -> Iterator[bytes]:
        """What is on disk, synced, and was not returned before: serialised records."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            while True:
                file.seek(self._offset)
                records, used = _parse(file.read(_WINDOW), self._offset)
                self._offset += used
                if not records:
                    return
                yield from records

    def cut_off_rest(self) -> None:
        """Drop an incomplete record at the end, once nobody writes any more: `wandb sync` stops at it."""
        if self._path.exists() and self._path.stat().st_size > self._offset:
            os.truncate(self._path, self._offset)


def _parse(data: bytes, offset: int) -> tuple[list[bytes], int]:
    """The complete records of `data`, which stands at `offset` of the file, and how many bytes they take."""
    records, used, position, record = [], 0, 0, b""
    while True:
        left = _BLOCK - (offset + position) % _BLOCK
        if left < _CHUNK_HEADER.size:
            position += left  # no chunk begins in the last bytes of a block
        if position + _CHUNK_HEADER.size > len(data):
            break
        crc, length, kind = _CHUNK_HEADER.unpack_from(data, position)
        payload = data[position + _CHUNK_HEADER.size : position + _CHUNK_HEADER.size + length]
        if (
            len(payload) < length
            or kind not in (_FULL, _FIRST, _MIDDLE, _LAST)
            or zlib.crc32(bytes([kind]) + payload) != crc
        ):
            break
        position += _CHUNK_HEADER.size + length
        record = payload if kind in (_FULL, _FIRST) else record + payload
        if kind in (_FULL, _LAST):
            records.append(record)
            used = position
    return records, used
