"""Where a run came from: code, packages, machine, data, command."""

from collections.abc import Mapping
from pathlib import Path

from trainyard.environment import JobEnvironment
from trainyard.provenance.data import dataset_version
from trainyard.provenance.git import GitState, git_diff, git_state
from trainyard.provenance.machine import describe_machine
from trainyard.provenance.packages import installed_packages
from trainyard.provenance.tags import tags

__all__ = [
    "GitState",
    "artifacts",
    "dataset_version",
    "describe_machine",
    "git_diff",
    "git_state",
    "tags",
]


def artifacts(environment: JobEnvironment, folder: Path) -> Mapping[str, bytes]:
    """Files to keep with a run, by name: `packages.txt`, and `git/diff.patch` where the code in `folder` differs from its commit."""
    found = {"packages.txt": installed_packages().encode()}
    # Variables that name a commit speak of an image's code, which `folder` is not.
    if not environment.git_commit and (diff := git_diff(folder)):
        found["git/diff.patch"] = diff
    return found
