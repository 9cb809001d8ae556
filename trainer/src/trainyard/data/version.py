"""Which data these are: what DVC says if that is true, else a hash of the content."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from trainyard.errors import ConfigError

_DIGITS: Final = 12
_MD5: Final = re.compile(r"[0-9a-f]{32}(\.dir)?")


def version_of(path: Path, files: Sequence[Path]) -> str:
    """`dvc:` and 12 hex digits if `<path>.dvc` is about exactly these bytes; else `sha256:` and 12 hex digits.

    `path`: the file or directory; `files`: what of it is read. The latter digits begin what `sha256sum FILE` prints, and for a directory
    `cd DIRECTORY; find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`. Raises ConfigError if the .dvc file is malformed.
    """
    recorded = _recorded(path)
    if recorded and recorded == _dvc_md5(path):
        return f"dvc:{recorded[:_DIGITS]}"
    if path.is_file():
        digest = _digest(path, "sha256")
    else:
        names = sorted(file.relative_to(path).as_posix() for file in files)
        lines = "".join(f"{_digest(path / name, 'sha256')}  {name}\n" for name in names)
        digest = hashlib.sha256(lines.encode()).hexdigest()
    return f"sha256:{digest[:_DIGITS]}"


def dvc_note(path: Path, version: str) -> Mapping[str, str]:
    """For the statistics: that there is a .dvc file which is about other data."""
    if not version.startswith("dvc:") and _beside(path).is_file():
        return {
            "dvc": f"{_beside(path).name} is about other data: `dvc add {path.name}` has not been run since they changed"
        }
    return {}


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.dvc")


def _recorded(path: Path) -> str | None:
    """What the .dvc file says; None if there is none."""
    file = _beside(path)
    if not file.is_file():
        return None
    try:
        (out,) = yaml.safe_load(file.read_text())["outs"]
        md5, name = str(out["md5"]), str(out["path"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{file}: must be what `dvc add {path.name}` writes, with outs[0].md5; run it again"
        ) from error
    if not _MD5.fullmatch(md5) or name != path.name or md5.endswith(".dir") != path.is_dir():
        raise ConfigError(
            f"{file}: outs[0] has md5 {md5} and path {name}, which is not {path.name}; run `dvc add {path.name}`"
        )
    return md5


def _dvc_md5(path: Path) -> str:
    """What DVC 3 would say now: the MD5 of a file, or of the list of a directory's files with theirs."""
    if path.is_file():
        return _digest(path, "md5")
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    listed: list[dict[str, Any]] = [{"md5": _digest(path / name, "md5"), "relpath": name} for name in names]
    return hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
