"""Where a run came from: code, packages, machine, data."""

import getpass
import hashlib
import os
import platform
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.environment import JobEnvironment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PACKAGES = ("trainyard", "torch", "numpy", "scikit-learn", "scipy", "pandas", "matplotlib", "mlflow-skinny", "mlflow")


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


def dataset_version(*arrays: "NDArray[np.generic]") -> str:
    """`sha256:` and 12 hex digits of the arrays' shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(array.tobytes())
    return f"sha256:{digest.hexdigest()[:12]}"


def describe_machine(environment: JobEnvironment, *, device: str) -> dict[str, object]:
    """Python, packages, CPU or GPU, host (in a pod: the pod's name) and image."""
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _package_version(name))},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "device": device,
        "cpus_of_machine": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "host": socket.gethostname(),
        "job_name": environment.job_name,
        "job_uid": environment.job_uid,
        "image": environment.image,
        "command": sys.argv,
    }


def tags(environment: JobEnvironment, git: GitState, **known: str) -> dict[str, str]:
    """Contract 3.5 of the design, the `trainyard.*` tags whose value is known; and what MLflow's UI shows as source.

    `known`: further tags without their prefix, such as config_hash.
    """
    found = {
        "trainyard.job_uid": environment.job_uid,
        "trainyard.job_name": environment.job_name,
        "trainyard.pod_name": environment.pod_name,
        "trainyard.node_name": environment.node_name,
        "trainyard.image": environment.image,
        "trainyard.git_commit": git.commit,
        "trainyard.git_branch": git.branch,
        "trainyard.git_dirty": git.dirty,
        **{f"trainyard.{name}": value for name, value in known.items()},
        "mlflow.user": _user(),
        "mlflow.source.name": shlex.join(_command()),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git.commit,
    }
    return {name: value for name, value in found.items() if value is not None}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an arbitrary user id in a container
        return None


def _command() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of git; None where git, the repository or the right to read it is missing."""
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
