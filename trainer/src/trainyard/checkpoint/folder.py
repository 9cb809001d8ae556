"""Checkpoints in a directory. Implements `trainyard.checkpoint.store.Store`."""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from trainyard.checkpoint.errors import CheckpointError
from trainyard.checkpoint.layout import MANIFEST, STATE, Content, Damaged, HashingFile, Name, check

_TEMPORARY: Final = re.compile(r"\.step-[\d.]+\.[0-9a-f]{8}")


class FolderStore:
    """One directory a checkpoint."""

    carries_record = False

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    @property
    def uri(self) -> str:
        """See `Store`."""
        return str(self._path)

    def open(self) -> None:
        """See `Store`."""
        with _explained(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            for entry in list(os.scandir(self._path)):
                if _TEMPORARY.fullmatch(entry.name) and not _being_written(Path(entry.path)):
                    shutil.rmtree(entry.path, ignore_errors=True)

    def names(self) -> list[Name]:
        """See `Store`."""
        with _explained(self._path):
            try:
                found = [Name.parse(entry.name) for entry in os.scandir(self._path)]
            except FileNotFoundError:
                return []
        return sorted((name for name in found if name), reverse=True)

    def read(self, name: Name, member: str) -> bytes:
        """See `Store`."""
        with _explained(self._path), _required(member):
            return self._file(name, member).read_bytes()

    def fetch(self, name: Name, member: str, expected: Content) -> IO[bytes]:
        """See `Store`."""
        with _explained(self._path), _required(member):
            file = self._file(name, member).open("rb")
            try:
                check(file, member, expected)
            except BaseException:
                file.close()
                raise
            return file

    def size(self, name: Name, member: str) -> int:
        """See `Store`."""
        with _explained(self._path), _required(member):
            return self._file(name, member).stat().st_size

    def draft(self, name: Name) -> "_Draft":
        """See `Store`."""
        with _explained(self._path):
            return _Draft(_temporary(self._path, name), self._path / str(name))

    def remove(self, name: Name) -> None:
        """See `Store`."""
        hidden = _temporary(self._path, name)
        with _explained(self._path):
            (self._path / str(name)).rename(hidden)
            shutil.rmtree(hidden)

    def _file(self, name: Name, member: str) -> Path:
        return self._path / str(name) / member


class _Draft:
    """A directory under a temporary name. Its state file is locked, so that a living writer's is not taken for a leftover."""

    def __init__(self, hidden: Path, path: Path) -> None:
        self._hidden = hidden
        self._path = path
        self._locks = contextlib.ExitStack()
        hidden.mkdir()

    def add(self, member: str, write: Callable[[HashingFile], object]) -> Content:
        """See `Draft`."""
        with _explained(self._path.parent):
            file = self._locks.enter_context((self._hidden / member).open("wb"))
            with contextlib.suppress(OSError):  # file systems without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hashing = HashingFile(file)
            write_all(hashing, write)
            file.flush()
            os.fsync(file.fileno())
        return hashing.content

    def commit(self, manifest: bytes) -> None:
        """See `Draft`."""
        self.add(MANIFEST, lambda file: file.write(manifest))
        with _explained(self._path.parent):
            _sync(self._hidden)
            self._hidden.rename(self._path)
            _sync(self._path.parent)
            _sync(self._path.parent.parent)

    def __enter__(self) -> "_Draft":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what a full disk could not take is no news any more
            self._locks.close()
        shutil.rmtree(self._hidden, ignore_errors=True)


def write_all(file: HashingFile, write: Callable[[HashingFile], object]) -> None:
    """`write(file)`; raises the OSError behind whatever it raises."""
    try:
        write(file)
    except Exception:
        if file.failure is not None:
            raise file.failure from None
        raise


def _temporary(parent: Path, name: Name) -> Path:
    return parent / f".{name}.{secrets.token_hex(4)}"


def _being_written(hidden: Path) -> bool:
    """Whether a living process holds the lock of its state file: the kernel frees it however a process ends."""
    try:
        with (hidden / STATE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no state file, no locks
        return False
    return False


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns an OSError into a CheckpointError."""
    try:
        yield
    except OSError as error:
        at = error.filename or path
        raise CheckpointError(f"{at}: {error.strerror or error}; checkpoints are kept in {path}") from error


@contextlib.contextmanager
def _required(member: str) -> Iterator[None]:
    """Turns a file that is not there into Damaged."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Damaged(f"{member} is missing") from error
