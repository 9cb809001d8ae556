"""The files of a data set: which they are, how messages call them, and their version."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.data.fetching import fetch
from trainyard.data.version import dvc_note, version_of
from trainyard.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file with data."""

    path: Path
    name: str
    """As the user would call it: what is at an s3:// address has its address, not the copy's path."""

    @property
    def kind(self) -> str:
        """Its ending in lower case, such as `.csv`."""
        return self.path.suffix.lower()

    @property
    def folder(self) -> str:
        """Name of the directory that it lies in."""
        return self.path.parent.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A data set on local disk."""

    uri: str
    path: Path
    """File or directory."""
    files: Sequence[DataFile]
    """All of one kind, in the order of their names."""
    version: str
    """See `trainyard.data.version`."""

    def describe(self) -> Mapping[str, Any]:
        """Beginning of the statistics."""
        return {"source": self.uri, "files": len(self.files), **dvc_note(self.path, self.version)}


@contextlib.contextmanager
def opened(uri: str, kinds: Collection[str], *, class_folders: bool = False) -> Iterator[Source]:
    """The data at `uri`, while the block lasts. `class_folders`: .txt files may lie in folders, a folder for each class.

    Raises ConfigError if there is no file, or one that is of no or another kind.
    """
    with fetch(uri) as path:
        files = _files(uri, path, class_folders=class_folders)
        _check(uri, files, kinds)
        version = version_of(path, [file.path for file in files])
        yield Source(uri=uri, path=path, files=files, version=version)


def _files(uri: str, path: Path, *, class_folders: bool) -> Sequence[DataFile]:
    if path.is_file():
        return [DataFile(path, uri)]
    found = []
    for each in _entries(path):
        if each.is_file():
            found.append(DataFile(each, f"{uri.rstrip('/')}/{each.name}"))
        elif not class_folders:
            raise ConfigError(f"{uri}: holds the directory {each.name}; put all files into {uri} itself")
        else:
            found += _class_files(uri, each)
    if not found:
        raise ConfigError(f"{uri}: the directory is empty")
    if len({file.path.parent for file in found}) > 1 and (
        loose := [file for file in found if file.path.parent == path]
    ):
        raise ConfigError(f"{loose[0].name}: lies beside the directories of the classes; move it into one of them")
    return found


def _class_files(uri: str, folder: Path) -> Sequence[DataFile]:
    files = list(_entries(folder))
    name = f"{uri.rstrip('/')}/{folder.name}"
    if not files:
        raise ConfigError(f"{name}: the directory of this class is empty")
    for each in files:
        if not each.is_file() or each.suffix.lower() != ".txt":
            raise ConfigError(f"{name}/{each.name}: the directory of a class must hold .txt files only")
    return [DataFile(each, f"{name}/{each.name}") for each in files]


def _entries(folder: Path) -> Iterator[Path]:
    """In the order of their names; without hidden ones, as in a mounted ConfigMap, and those that DVC puts beside data."""
    return (each for each in sorted(folder.iterdir()) if not each.name.startswith(".") and each.suffix != ".dvc")


def _check(uri: str, files: Sequence[DataFile], kinds: Collection[str]) -> None:
    allowed = " or ".join(kinds)
    for file in files:
        if file.kind not in kinds:
            raise ConfigError(f"{file.name}: the name must end in {allowed}")
        if file.kind != files[0].kind:
            raise ConfigError(
                f"{uri}: holds {files[0].path.name} and {file.path.name}; all files must be of one kind, {allowed}"
            )
        if file.path.stat().st_size == 0:
            raise ConfigError(f"{file.name}: the file is empty")
