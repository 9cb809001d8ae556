"""The state of the code."""

import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainyard.environment import JobEnvironment

_TIMEOUT_S: Final = 10
DIFF_BYTES: Final = 5_000_000
_CUT: Final = b"\n[cut here by trainyard: the diff has more than %d bytes]\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class GitState:
    """The state of the code; None where it is not known."""

    commit: str | None = None
    branch: str | None = None
    dirty: str | None = None
    """`true` or `false`: whether tracked files differ from the commit."""


def git_state(environment: JobEnvironment, folder: Path) -> GitState:
    """What the TRAINYARD_GIT_* variables say, else the repository that `folder` lies in, else nothing."""
    if environment.git_commit:
        return GitState(commit=environment.git_commit, branch=environment.git_branch, dirty=environment.git_dirty)
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return GitState()
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return GitState(
        commit=commit,
        branch=_git(folder, "branch", "--show-current") or None,
        dirty=None if changes is None else str(bool(changes)).lower(),
    )


def git_diff(folder: Path) -> bytes | None:
    """What `git apply` makes of the commit to get the tracked files of the repository around `folder`; None without a difference.

    Files that git does not track are left out, since a secret may be among them. At most DIFF_BYTES, then a line that says so.
    """
    # As a user's settings would have it, it might not be a patch.
    plain = ("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "diff.relative=false")
    command = _command(folder, *plain, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--binary", "HEAD", "--")
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    with process:
        assert process.stdout is not None
        timer = threading.Timer(_TIMEOUT_S, process.kill)
        timer.start()
        diff = process.stdout.read(DIFF_BYTES + 1)
        timer.cancel()
        if len(diff) > DIFF_BYTES:
            process.kill()
            return diff[:DIFF_BYTES] + _CUT % DIFF_BYTES
    return diff if process.returncode == 0 and diff else None


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of git; None where git, the repository or the right to read it is missing."""
    try:
        done = subprocess.run(
            _command(folder, *arguments), capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _command(folder: Path, *arguments: str) -> list[str]:
    # Without the option `git status` writes the index, and a commit that somebody makes at this moment finds it locked.
    return ["git", "--no-optional-locks", "-C", str(folder), *arguments]
