"""Bytes of a segment, version 1. README.md is the description that others may rely on."""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final

from trainyard.errors import SpoolError
from trainyard.spool.records import Artifact, End, Metrics, Model, Params, Record, Tags

VERSION: Final = 1
HEADER_BYTES: Final = 64
PREFIX: Final = struct.Struct("<II")
"""Before each record: length of its body, CRC-32 of its body."""

_MAGIC: Final = b"TYSPOOL\n"
_HEADER: Final = struct.Struct("<8sHH16sIQ")
_CHECKSUM: Final = struct.Struct("<I")

KEY: Final = 1
METRICS: Final = 2
_METRICS_HEAD: Final = struct.Struct("<Bqq")
_PAIR: Final = struct.Struct("<Id")
_KEY_HEAD: Final = struct.Struct("<BI")
_JSON_KINDS: Final[Mapping[int, type[Record]]] = {3: Params, 4: Tags, 5: Artifact, 6: Model, 7: End}
_KIND_OF: Final = {record: kind for kind, record in _JSON_KINDS.items()}


class HeaderError(SpoolError):
    """The first bytes of a segment are not what was written there."""


def header(uid: str, sequence: int, time_ms: int) -> bytes:
    """First bytes of a segment."""
    fields = _HEADER.pack(_MAGIC, VERSION, HEADER_BYTES, bytes.fromhex(uid), sequence, time_ms)
    return (fields + _CHECKSUM.pack(zlib.crc32(fields))).ljust(HEADER_BYTES, b"\0")


def check_header(data: bytes, place: str) -> None:
    """Raises HeaderError, or SpoolError for a version that cannot be read."""
    fields, end = data[: _HEADER.size], _HEADER.size + _CHECKSUM.size
    if len(data) < HEADER_BYTES or fields[: len(_MAGIC)] != _MAGIC:
        raise HeaderError(f"{place} is no segment of a spool")
    if data[_HEADER.size : end] != _CHECKSUM.pack(zlib.crc32(fields)):
        raise HeaderError(f"{place}: its header is damaged")
    version = _HEADER.unpack(fields)[1]
    if version != VERSION:
        raise SpoolError(f"{place} has format {version}; this trainyard reads {VERSION}: use the one that wrote it")


def frame(body: bytes) -> bytes:
    """A record as it stands in a segment."""
    return PREFIX.pack(len(body), zlib.crc32(body)) + body


def encode(record: Record) -> bytes:
    """Body of any record but Metrics, which the writer packs itself."""
    return bytes([_KIND_OF[type(record)]]) + json.dumps(asdict(record), separators=(",", ":")).encode()


def encode_key(number: int, key: str) -> bytes:
    """Body of the record that gives a metric its number in this segment."""
    return _KEY_HEAD.pack(KEY, number) + key.encode()


def metrics_struct(count: int) -> struct.Struct:
    """Body of a record of `count` metrics: kind, step, time in ms, then (number of the key, value) pairs."""
    return struct.Struct("<Bqq" + "Id" * count)


def decode(body: bytes, keys: dict[int, str]) -> Record | None:
    """The record in `body`; None for a key, which goes into `keys`. Raises SpoolError if it makes no sense.

    A value whose key stood in a damaged place is kept as `unnamed/<number>`.
    """
    kind = body[0]
    try:
        if kind == METRICS:
            _, step, time_ms = _METRICS_HEAD.unpack_from(body)
            pairs = _PAIR.iter_unpack(memoryview(body)[_METRICS_HEAD.size :])
            return Metrics(
                step, time_ms, tuple((keys.get(number) or f"unnamed/{number}", value) for number, value in pairs)
            )
        if kind == KEY:
            keys[_KEY_HEAD.unpack_from(body)[1]] = body[_KEY_HEAD.size :].decode()
            return None
        return _JSON_KINDS[kind](**json.loads(body[1:]))
    except (KeyError, ValueError, TypeError, struct.error) as error:
        raise SpoolError(f"a record of kind {kind} and {len(body)} bytes cannot be read: {error!r}") from error


def whole_record(data: memoryview, at: int) -> memoryview | None:
    """Body of the record at `at` if all of it is there and intact, else None."""
    start = at + PREFIX.size
    if start > len(data):
        return None
    length, checksum = PREFIX.unpack_from(data, at)
    body = data[start : start + length]
    return body if 0 < length == len(body) and zlib.crc32(body) == checksum else None


def next_record(data: memoryview, after: int) -> int | None:
    """Where the first intact record behind a damaged place begins, if there is one."""
    return next((at for at in _plausible(data, after) if whole_record(data, at) is not None), None)


def _plausible(data: memoryview, after: int) -> Iterator[int]:
    """Places that might begin a record: a length that fits and a kind that exists."""
    for at in range(after, len(data) - PREFIX.size):
        (length,) = _CHECKSUM.unpack_from(data, at)
        if 0 < length <= len(data) - at - PREFIX.size and data[at + PREFIX.size] <= max(_JSON_KINDS):
            yield at
