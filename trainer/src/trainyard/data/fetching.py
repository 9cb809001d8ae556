"""Where data are on local disk while they are read."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, TrainyardError

_PREFIX: Final = "data-"


@contextlib.contextmanager
def fetch(uri: str, *, s3: Any = None) -> Iterator[Path]:
    """The file or directory that `uri` names; what is at an s3:// address is a copy that is gone after the block.

    The copy lies in `tmp` of TRAINYARD_STATE_DIR. `s3`: boto3's S3 client; made from boto3's own environment if not given.
    Raises ConfigError if there is nothing, or this user may not have it; TrainyardError if the S3 server does not answer.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        path = Path(uri).expanduser().absolute()
        if not path.exists():
            raise ConfigError(f"{uri}: there is no file or directory {path}")
        yield path
    elif scheme == "s3":
        from trainyard.data.s3 import download

        folder = JobEnvironment.read(os.environ).state_dir / "tmp"
        with _temporary(folder) as target:
            try:
                path = download(uri, target, s3)
            except OSError as error:
                raise TrainyardError(f"{uri}: cannot be copied to {folder}: {error.strerror or error}") from error
            yield path
    else:
        raise ConfigError(f"{uri}: must be a file, a directory or s3://BUCKET/KEY")


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """An empty directory that is removed afterwards: by us, or, after a SIGKILL, by the next one who wants one."""
    try:
        own, lock = _make(folder)
    except OSError as error:
        raise TrainyardError(f"{folder}: {error.strerror or error}; data from S3 are copied there") from error
    try:
        yield own / "content"
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


def _make(folder: Path) -> tuple[Path, int]:
    """A directory, and the descriptor that holds its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    # One after the other: all ranks of a pod begin at the same time, and none may take what another just makes for abandoned.
    making = _open_lock(folder / f"{_PREFIX}lock")
    try:
        fcntl.flock(making, fcntl.LOCK_EX)
        _remove_abandoned(folder)
        own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        (own / "content").mkdir()
        lock = _open_lock(own / "lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(making)
    return own, lock


def _remove_abandoned(folder: Path) -> None:
    """What a killed process left would fill a volume, preemption by preemption."""
    for lock_file in folder.glob(f"{_PREFIX}*/lock"):
        lock = _open_lock(lock_file)
        try:
            with contextlib.suppress(BlockingIOError):  # in use
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock_file.parent, ignore_errors=True)
        finally:
            os.close(lock)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
