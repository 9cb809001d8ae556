"""Format 1: what a checkpoint is called, its manifest, and how its files are checked. README.md describes it."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any, Final

from trainyard.checkpoint.errors import CheckpointError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
STATE: Final = "state.pt"
RECORD: Final = "record.tar"
_NAME: Final = re.compile(r"step-(\d{9,})(?:\.(\d+))?")
_CHUNK: Final = 2**20


class Damaged(Exception):  # noqa: N818 - of a checkpoint, not of the program
    """A checkpoint is not complete, or not what its manifest says. The text is the reason."""


@dataclass(frozen=True, order=True, slots=True)
class Name:
    """`step-000000020`, and `step-000000020.2` where the same step is saved again: the greatest name is the newest."""

    step: int
    attempt: int = 1

    def __str__(self) -> str:
        return f"step-{self.step:09d}" + (f".{self.attempt}" if self.attempt > 1 else "")

    @classmethod
    def parse(cls, text: str) -> "Name | None":
        """None for what is no checkpoint."""
        match = _NAME.fullmatch(text)
        return cls(int(match[1]), int(match[2] or 1)) if match else None


@dataclass(frozen=True, slots=True)
class Content:
    """What a file has to be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Makes a checkpoint complete: it is written last."""

    step: int
    files: Mapping[str, Content]
    run: Mapping[str, str]
    """`uid` and `name`."""
    config_hash: str | None
    score: float | None
    saved_at: str
    """Time in UTC, ISO 8601."""

    def encode(self) -> bytes:
        """As JSON, with a checksum of its own."""
        score = self.score if self.score is not None and math.isfinite(self.score) else None
        fields = {"format": FORMAT, **asdict(self), "score": score}
        return json.dumps({**fields, "sha256": _checksum(fields)}, indent=1).encode()

    @classmethod
    def decode(cls, content: bytes, name: Name) -> "Manifest":
        """Raises Damaged, or CheckpointError for a format that this code does not know."""
        try:
            fields = json.loads(content)
            checksum = fields.pop("sha256")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Damaged(f"{MANIFEST} is no manifest") from error
        if checksum != _checksum(fields) or fields.get("step") != name.step:
            raise Damaged(f"{MANIFEST} has been changed since it was written")
        if fields.pop("format") != FORMAT:
            raise CheckpointError(f"checkpoint {name} is of another format: use the trainyard that wrote it")
        return cls(**{**fields, "files": {file: Content(**content) for file, content in fields["files"].items()}})


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class HashingFile:
    """Takes what is written to a file and knows its checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._bytes = 0
        self.failure: OSError | None = None
        """Why the file could not be written: torch reports that only as an error of its own."""

    def write(self, data: Any) -> int:
        """All of `data`."""
        try:
            self._file.write(data)
        except OSError as error:
            self.failure = error
            raise
        self._hash.update(data)
        self._bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """To the kernel."""
        self._file.flush()

    @property
    def content(self) -> Content:
        """Of everything written so far."""
        return Content(self._bytes, self._hash.hexdigest())


def check(file: IO[bytes], member: str, expected: Content) -> None:
    """Read `file` to its end and set it back to its beginning. Raises Damaged if it is not what is expected."""
    found = hashlib.sha256()
    size = 0
    while chunk := file.read(_CHUNK):
        found.update(chunk)
        size += len(chunk)
    check_size(size, member, expected)
    if found.hexdigest() != expected.sha256:
        raise Damaged(f"{member} has been changed since it was written")
    file.seek(0)


def check_size(size: int, member: str, expected: Content) -> None:
    """Raises Damaged."""
    if size != expected.bytes:
        raise Damaged(f"{member} has {size} of {expected.bytes} bytes")
