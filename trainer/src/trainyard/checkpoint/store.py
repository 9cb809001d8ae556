"""Where checkpoints are: what a directory and a bucket have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from trainyard.checkpoint.layout import Content, HashingFile, Name
from trainyard.errors import ConfigError


class Draft(Protocol):
    """A checkpoint that is being written; nobody sees it before `commit`. A context manager: what is not committed is discarded."""

    def add(self, member: str, write: Callable[[HashingFile], object]) -> Content:
        """Add a file. Raises CheckpointError."""

    def commit(self, manifest: bytes) -> None:
        """Make it a checkpoint, durably. May be tried again after StoreUnavailable."""

    def __enter__(self) -> "Draft": ...

    def __exit__(self, *_: object) -> None: ...


class Store(Protocol):
    """The checkpoints of one run.

    Each method raises CheckpointError, StoreUnavailable where another try may help, ConfigError for a place that cannot be used.
    """

    @property
    def uri(self) -> str:
        """As people write it."""

    @property
    def carries_record(self) -> bool:
        """Whether the tracking record that is not delivered yet belongs into checkpoints: it may be in no other place that lasts."""

    def open(self) -> None:
        """Make sure that checkpoints can be written here, and remove what dead writers left half-written."""

    def names(self) -> list[Name]:
        """Of all checkpoints, complete or not, the newest first."""

    def read(self, name: Name, member: str) -> bytes:
        """A small file, not checked. Raises Damaged if there is none."""

    def fetch(self, name: Name, member: str, expected: Content) -> IO[bytes]:
        """A file as it was written. Raises Damaged."""

    def size(self, name: Name, member: str) -> int:
        """Bytes of a file. Raises Damaged if there is none."""

    def draft(self, name: Name) -> Draft:
        """Begin a checkpoint; there is none of that name."""

    def remove(self, name: Name) -> None:
        """Remove a checkpoint; an interrupted removal leaves nothing that looks complete."""


def store_at(uri: str, *, staging: Path) -> Store:
    """The store at `s3://bucket/prefix` or in a directory; `staging`: local disk for files on their way. Raises ConfigError."""
    scheme, colon, _ = uri.partition("://")
    if not colon:
        from trainyard.checkpoint.folder import FolderStore

        return FolderStore(Path(uri))
    if scheme != "s3":
        raise ConfigError(f"checkpoint URI {uri}: must be a directory or s3://BUCKET/PREFIX")
    from trainyard.checkpoint.s3 import S3Store

    return S3Store(uri, staging)
