"""Where things are in a spool's folder, and who may touch them."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from trainyard.errors import SpoolError
from trainyard.spool.records import Start

SEGMENT_NAME: Final = re.compile(r"(\d{8})\.spool")
_START: Final = "start.json"
_FORMAT: Final = 1
_NAME: Final = re.compile(r"([0-9a-f]{32})(?:\.(\d+))?")
FOLDER_MODE: Final = 0o2775
FILE_MODE: Final = 0o664
"""Group-writable: in a pod, the shipper may run under another user id of the same group."""

_ours: set[Path] = set()


class SpoolFolder:
    """What one process recorded of a run: `<state>/spool/<uid>`, and from the second process on `<uid>.<attempt>`."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.uid, _, attempt = path.name.partition(".")
        self.attempt = int(attempt or 1)

    @classmethod
    def create(cls, parent: Path, start: Start) -> "tuple[SpoolFolder, int]":
        """Make the folder and hold its writer's lock, before anybody can see it. Returns it and the lock's descriptor.

        Raises OSError, FileExistsError among others.
        """
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / folder_name(start.uid, start.attempt)
        hidden = parent / f".{path.name}.{os.getpid()}"
        _make(hidden)
        write_json(hidden / _START, {"format": _FORMAT, **asdict(start)})
        for name in ("artifacts", "cursors"):
            _make(hidden / name)
        lock = os.open(hidden / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        os.fchmod(lock, FILE_MODE)
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
        folder = cls(path)
        _ours.add(folder.path)
        return folder, lock

    def before(self) -> "SpoolFolder | None":
        """What the process before this one recorded of the same run, if that is here."""
        earlier = [each for each in attempts(self.path.parent, self.uid) if each.attempt < self.attempt]
        return earlier[-1] if earlier else None

    def released(self) -> None:
        """The writer of this process has closed its lock."""
        _ours.discard(self.path)

    def start(self) -> Start:
        """How the run began. Raises SpoolError if this is no spool."""
        path = self.path / _START
        try:
            fields = json.loads(path.read_bytes())
            if fields.pop("format") != _FORMAT:
                raise SpoolError(f"{path} is of another format: use the trainyard that wrote it")
            return Start(**{**fields, "backends": tuple(fields["backends"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SpoolError(f"{self.path} is not the spool of a run: {path.name}: {error}") from error

    @property
    def artifacts(self) -> Path:
        """Copies of what has to be delivered."""
        return self.path / "artifacts"

    @property
    def shipped(self) -> Path:
        """Exists once everything is delivered: what went where, as JSON."""
        return self.path / "shipped.json"

    def cursor(self, backend: str) -> Path:
        """How far a backend is."""
        return self.path / "cursors" / f"{backend}.json"

    def segment(self, sequence: int) -> Path:
        """The segment of that number, from 1."""
        return self.path / f"{sequence:08d}.spool"

    def segments(self) -> list[int]:
        """Numbers of the segments that are there, in order."""
        found = (SEGMENT_NAME.fullmatch(entry.name) for entry in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def used_bytes(self) -> int:
        """Disk used by segments and copies."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # the shipper deletes what it has delivered
                    total += Path(folder, name).stat().st_blocks * 512
        return total

    def writer_alive(self) -> bool:
        """Whether the process that writes here still lives: the kernel frees its lock however it ends."""
        if self.path in _ours:
            # Asking for a POSIX lock would succeed in the process that has it, and closing the file would drop it.
            return True
        with _try_lock(self.path / "writer.lock") as free:
            return not free

    @contextlib.contextmanager
    def shipping(self) -> Iterator[bool]:
        """Be the one who ships this spool; gives False if somebody else does."""
        with _try_lock(self.path / "shipper.lock", shared_in_process=True) as mine:
            yield mine

    def discard_copy(self, name: str) -> None:
        """Remove the copy of an artifact or model that every backend has."""
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def discard_delivered(self) -> None:
        """Remove everything but the summary. The copies' folder goes last: while it is there, this is not done."""
        for path in (*self.path.glob("*.spool"), *self.path.glob("*.new")):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.artifacts, ignore_errors=True)


def folder_name(uid: str, attempt: int) -> str:
    """Of what the process with that number recorded of the run."""
    return uid if attempt == 1 else f"{uid}.{attempt}"


def spools(parent: Path) -> list[SpoolFolder]:
    """Every spool in `parent`, the oldest first."""
    if not parent.is_dir():
        return []
    found = [entry for entry in os.scandir(parent) if entry.is_dir() and _NAME.fullmatch(entry.name)]
    return [SpoolFolder(Path(entry.path)) for entry in sorted(found, key=lambda entry: entry.stat().st_ctime)]


def attempts(parent: Path, uid: str) -> list[SpoolFolder]:
    """What processes one after the other recorded of one run, the first one first."""
    return sorted((folder for folder in spools(parent) if folder.uid == uid), key=lambda folder: folder.attempt)


def write_json(path: Path, content: Mapping[str, object], *, indent: int | None = None) -> None:
    """Whole or not at all, and on the disk itself."""
    hidden = path.with_name(f".{path.name}.{threading.get_native_id()}")
    with hidden.open("w") as file:
        json.dump(content, file, indent=indent)
        file.flush()
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())
    hidden.rename(path)


def _make(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(FOLDER_MODE)  # mkdir's own mode is cut by the umask


@contextlib.contextmanager
def _try_lock(path: Path, *, shared_in_process: bool = False) -> Iterator[bool]:
    """Hold a lock for the block; gives False where another one has it. flock also keeps threads of one process apart."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    with contextlib.suppress(PermissionError):  # made by another user of the group, and right already
        os.fchmod(lock, FILE_MODE)
    try:
        take = fcntl.flock if shared_in_process else fcntl.lockf
        try:
            take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(lock)
