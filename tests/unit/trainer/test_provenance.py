"""Where a run came from."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from trainyard.environment import JobEnvironment
from trainyard.provenance import GitState, dataset_version, git_state


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--initial-branch", "work")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_repository_is_read(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "notes.txt").write_text("untracked files do not count")
    assert git_state(JobEnvironment(), repository) == GitState(commit=commit, branch="work", dirty="false")
    (repository / "code.py").write_text("2")
    assert git_state(JobEnvironment(), repository).dirty == "true"


def test_the_environment_counts_more_than_a_repository(repository: Path) -> None:
    told = JobEnvironment(git_commit="4f2a", git_branch="main", git_dirty="true")
    assert git_state(told, repository) == GitState(commit="4f2a", branch="main", dirty="true")


def test_outside_a_repository_nothing_is_claimed(tmp_path: Path) -> None:
    assert git_state(JobEnvironment(), tmp_path) == GitState()


def test_without_git_nothing_is_claimed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert git_state(JobEnvironment(), repository) == GitState()


def test_dataset_version_follows_the_content() -> None:
    data = np.arange(6)
    assert dataset_version(data) == dataset_version(np.arange(6))
    assert len({dataset_version(each) for each in (data, data + 1, data.reshape(2, 3), data.astype(float))}) == 4
