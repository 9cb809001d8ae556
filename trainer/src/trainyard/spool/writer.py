"""Appending to a spool: the only part of tracking that runs inside a training step."""

import os
import posixpath
import re
import shutil
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping
from mmap import MAP_POPULATE, MAP_SHARED, mmap
from pathlib import Path
from typing import Final, SupportsFloat, SupportsIndex

from trainyard.errors import SpoolError
from trainyard.spool import format as layout
from trainyard.spool.folder import FILE_MODE, SpoolFolder
from trainyard.spool.records import End, Record, Start, Tags
from trainyard.spool.space import Limits, Space

SEGMENT_BYTES: Final = 2**20
_RESERVE_BYTES: Final = 2**16
"""Kept free in each segment, so that a full disk does not keep a run from saying how it ended."""
_CLOSED: Final = -1
_NAME: Final = re.compile(r"[/\w.\- :]+")

_writers: "weakref.WeakSet[SpoolWriter]" = weakref.WeakSet()


class SpoolWriter:
    """Writes one spool. Safe to call from several threads; a forked child is refused.

    A record is in the page cache when a call returns: it survives the end of the process, however that comes about. It
    survives a loss of power from the next `sync` on.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        lock: int,
        *,
        limits: Limits,
        pause: Callable[[float], None],
        warn: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self._owner_lock = lock
        self._warn = warn
        self._space = Space(folder, limits, pause=pause, warn=warn)
        # Reentrant: a signal handler may end the run in the middle of a call.
        self._lock = threading.RLock()
        self._sequence = 0
        self._copies = 0
        self._file = -1
        self._map = mmap(-1, 1)
        self._at = 0
        self._limit = _CLOSED
        self._keys: dict[str, int] = {}
        self._packers: dict[int, Callable[..., bytes]] = {}
        self._unsynced: set[Path] = set()
        self._begin_segment(SEGMENT_BYTES)
        _writers.add(self)

    @classmethod
    def create(
        cls,
        parent: Path,
        start: Start,
        *,
        limits: Limits | None = None,
        pause: Callable[[float], None] = time.sleep,
        warn: Callable[[str], None],
    ) -> "SpoolWriter":
        """A new spool in `parent`. Raises SpoolError if it cannot be made."""
        try:
            folder, lock = SpoolFolder.create(parent, start)
        except OSError as error:
            raise SpoolError(
                f"no spool can be made in {parent}: {error.strerror or error}; set TRAINYARD_STATE_DIR"
            ) from error
        return cls(folder, lock, limits=limits or Limits(), pause=pause, warn=warn)

    def metrics(self, values: Mapping[str, SupportsFloat | SupportsIndex], *, step: int) -> None:
        """Append what was measured at `step`, now. Raises TypeError, ValueError or OverflowError for what is no metric."""
        lock = self._lock
        with lock:
            try:
                keys = self._keys
                fields: list[SupportsFloat | SupportsIndex] = []
                for key, value in values.items():
                    fields += (keys[key], value)
                body = self._packers[len(fields)](layout.METRICS, step, time.time_ns() // 1_000_000, *fields)
            except (KeyError, struct.error, TypeError):
                body = self._first_time(values, step)
            at = self._at
            end = at + 8 + len(body)
            if end > self._limit:
                self._in_a_new_segment(values, step)
                return
            self._map[at:end] = layout.PREFIX.pack(len(body), zlib.crc32(body)) + body
            self._at = end

    def append(self, record: Record) -> None:
        """Append any other record. Raises SpoolError where the spool has ended or gets no disk."""
        body = layout.encode(record)
        with self._lock:
            self._refuse_closed()
            if self._at + layout.PREFIX.size + len(body) > self._limit:
                self._begin_segment(_segment_for(len(body)))
            self._put(body)

    def stage(self, source: Path) -> str:
        """Copy a file or a folder into the spool; returns where it is, relative to the spool. Raises OSError for the source."""
        size = _size(source)
        with self._lock:
            self._refuse_closed()
            self._copies += 1
            name = f"artifacts/{self._copies:06d}-{source.name}"
        target = self.folder.path / name
        self._space.take(size, lambda: _copy(source, target), f"a copy of {source} ({size / 2**20:.1f} MiB)")
        with self._lock:
            self._unsynced.add(target)
        return name

    def sync(self) -> None:
        """Bring everything so far onto the disk itself: from here on it survives a loss of power."""
        with self._lock:
            self._refuse_closed()
            file = os.dup(self._file)
            waiting, self._unsynced = self._unsynced, set()
        # Without the lock: a training step that logs must not wait for the disk.
        try:
            os.fsync(file)
        finally:
            os.close(file)
        for path in waiting:
            _sync_tree(path)
        for folder in (self.folder.artifacts, self.folder.path, self.folder.path.parent):
            _sync(folder)

    def end(self, end: End, tags: Mapping[str, str]) -> None:
        """Write the last records and let go of the spool. Needs no new disk."""
        with self._lock:
            self._refuse_closed()
            # From here on the reserve may be used.
            self._limit = len(self._map)
            for body in (layout.encode(Tags(tags)), layout.encode(end)):
                if self._at + layout.PREFIX.size + len(body) <= self._limit:
                    self._put(body)
                else:
                    self._warn(f"{self.folder.path} has no room for the tags {', '.join(tags)} of the run's end")
            self.sync()
            self._limit = _CLOSED
            _close(self._map, self._file, self._at)
            os.close(self._owner_lock)
            self.folder.released()

    def _first_time(self, values: Mapping[str, SupportsFloat | SupportsIndex], step: int) -> bytes:
        """The slow way: new keys get their number, and what cannot be recorded is named."""
        self._refuse_closed()
        numbers = {key: _number(key, value, step) for key, value in values.items()}
        fields: list[int | float] = []
        self._define(numbers)
        for key, value in numbers.items():
            fields += (self._keys[key], value)
        pack = self._packers.setdefault(len(fields), layout.metrics_struct(len(numbers)).pack)
        try:
            return pack(layout.METRICS, step, time.time_ns() // 1_000_000, *fields)
        except struct.error as error:
            raise TypeError(f"step={step!r} of {', '.join(values)}: must be a whole number of 64 bits") from error

    def _define(self, keys: Iterable[str]) -> None:
        """Give new keys their numbers in this segment; all in one segment, or the numbers would not be of the same."""
        new = [key for key in keys if key not in self._keys]
        for key in new:
            refuse_metric_name(key)
        if self._at + sum(len(key.encode()) + 32 for key in new) > self._limit:
            new = list(keys)
            self._begin_segment(_segment_for(sum(len(key.encode()) + 32 for key in new)))
        for key in new:
            self._put(layout.encode_key(len(self._keys), key))
            self._keys[key] = len(self._keys)

    def _in_a_new_segment(self, values: Mapping[str, SupportsFloat | SupportsIndex], step: int) -> None:
        self._refuse_closed()
        self._begin_segment(_segment_for(sum(len(key.encode()) + 64 for key in values) + 64))
        self._put(self._first_time(values, step))

    def _put(self, body: bytes) -> None:
        end = self._at + layout.PREFIX.size + len(body)
        self._map[self._at : end] = layout.frame(body)
        self._at = end

    def _begin_segment(self, size: int) -> None:
        """Reserve the next segment, then close the one before: while there is no room, that one can still take the end."""
        path = self.folder.segment(self._sequence + 1)
        file, memory = self._space.take(
            size, lambda: _reserve(path, size, self.folder.uid, self._sequence + 1), "more records"
        )
        before = self._map, self._file, self._at
        # The one before too: it may have been written to since it was last brought onto the disk.
        self._unsynced |= {self.folder.segment(self._sequence), path} if self._sequence else {path}
        # In one statement: an exception out of a signal handler must not find half of it done.
        self._map, self._file, self._at, self._limit, self._keys, self._sequence = (
            memory,
            file,
            layout.HEADER_BYTES,
            size - _RESERVE_BYTES,
            {},
            self._sequence + 1,
        )
        _close(*before)

    def _refuse_closed(self) -> None:
        if self._limit == _CLOSED:
            raise SpoolError(
                f"{self.folder.path} has ended, or belongs to the parent of this process: nothing can be added"
            )

    def _disown(self) -> None:
        """In a forked child: two processes would write to the same place."""
        self._lock = threading.RLock()
        self._limit = _CLOSED


def _segment_for(needed: int) -> int:
    """Size of a segment that has room for `needed` bytes of records."""
    return max(SEGMENT_BYTES, layout.HEADER_BYTES + layout.PREFIX.size + needed + _RESERVE_BYTES)


def _number(key: str, value: object, step: int) -> float:
    try:
        if not isinstance(value, str | bytes):
            return float(value)  # type: ignore[arg-type]  # what has no float is what this looks for
    except (TypeError, ValueError) as error:
        raise TypeError(f"metric {key}={value!r} at step {step}: is not a number") from error
    raise TypeError(f"metric {key}={value!r} at step {step}: is not a number")


def _close(memory: mmap, file: int, used: int) -> None:
    """Give back what a segment had reserved and not used."""
    memory.close()
    if file >= 0:
        os.ftruncate(file, used)
        os.close(file)


def refuse_metric_name(key: str) -> None:
    """Raises ValueError for a name that MLflow would not take."""
    if not (isinstance(key, str) and 0 < len(key) <= 250 and _NAME.fullmatch(key) and _is_plain_path(key)):
        raise ValueError(
            f"metric name {key!r}: must be 1 to 250 letters, digits, spaces and _ - . : / and no path such as /a, a//b or ../a"
        )


def _is_plain_path(key: str) -> bool:
    return posixpath.normpath(key) == key and not key.startswith(("/", "..")) and key != "."


def _reserve(path: Path, size: int, uid: str, sequence: int) -> tuple[int, mmap]:
    """A file of `size` bytes of disk with a header, mapped. Reserved, since a page of a mapped file without disk behind it
    kills the process. It appears when all that may fail is done: whoever reads takes the segment before it for complete."""
    hidden = path.with_suffix(".new")
    file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        os.fchmod(file, FILE_MODE)
        os.posix_fallocate(file, 0, size)
        os.pwrite(file, layout.header(uid, sequence, time.time_ns() // 1_000_000), 0)
        # Populated at once: a page fault in the middle of a step takes longer than the record.
        memory = mmap(file, size, flags=MAP_SHARED | MAP_POPULATE)
        hidden.rename(path)
    except BaseException:
        os.close(file)
        hidden.unlink(missing_ok=True)
        raise
    return file, memory


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    hidden = target.with_name(f".{target.name}")
    try:
        # Not copytree: it hides that the disk is full behind an exception of its own.
        for file in [source] if source.is_file() else (each for each in source.rglob("*") if each.is_file()):
            copy = hidden / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            copy.chmod(FILE_MODE)
        hidden.rename(target)
    except BaseException:
        _remove(hidden)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _size(source: Path) -> int:
    files = source.rglob("*") if source.is_dir() else [source]
    return sum(file.stat().st_size for file in files if not file.is_dir())


def _sync_tree(path: Path) -> None:
    for each in [path, *(path.rglob("*") if path.is_dir() else ())]:
        _sync(each)


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # delivered, and therefore gone
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disown_all() -> None:
    for writer in _writers:
        writer._disown()


os.register_at_fork(after_in_child=_disown_all)
