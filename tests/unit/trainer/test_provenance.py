"""Where a run came from."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from trainyard.environment import JobEnvironment
from trainyard.provenance import (
    GitState,
    artifacts,
    dataset_version,
    describe_machine,
    git_diff,
    git_state,
    tags,
)
from trainyard.provenance.gpu import describe_gpus, driver_version
from trainyard.provenance.machine import memory_limit, memory_of_machine


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


def test_the_diff_makes_the_code_from_its_commit(repository: Path, tmp_path: Path) -> None:
    (repository / "bytes").write_bytes(b"\0\1")
    (repository / "gone.py").write_text("old")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "second")
    (repository / "code.py").write_text("2\n")
    (repository / "bytes").write_bytes(b"\0\2")
    (repository / "gone.py").unlink()
    (repository / "new.py").write_text("new")
    git(repository, "add", "new.py")
    # A user's settings that would make it no patch.
    for name, value in (("diff.noprefix", "true"), ("color.ui", "always"), ("diff.external", "false")):
        git(repository, "config", name, value)
    inside = repository / "folder"
    inside.mkdir()
    patch = tmp_path / "diff.patch"
    patch.write_bytes(git_diff(inside) or b"")
    git(repository, "stash")
    git(repository, "apply", str(patch))
    assert (repository / "code.py").read_text() == "2\n"
    assert (repository / "bytes").read_bytes() == b"\0\2"
    assert (repository / "new.py").read_text() == "new"
    assert not (repository / "gone.py").exists()


def test_untracked_files_are_in_no_diff(repository: Path) -> None:
    (repository / "password.txt").write_text("secret")
    assert git_diff(repository) is None
    (repository / "code.py").write_text("2")
    assert b"secret" not in (git_diff(repository) or b"")


def test_a_diff_that_is_too_long_says_where_it_was_cut(repository: Path) -> None:
    (repository / "code.py").write_text("a line\n" * 1_000_000)
    diff = git_diff(repository)
    assert diff is not None
    assert diff.startswith(b"diff --git a/code.py b/code.py")
    assert diff.endswith(b"\n[cut here by trainyard: the diff has more than 5000000 bytes]\n")
    assert len(diff) == pytest.approx(5_000_000, abs=100)


def test_outside_a_repository_or_without_git_there_is_no_diff(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "code.py").write_text("2")
    outside = tmp_path.parent
    assert git_diff(outside) is None
    monkeypatch.setenv("PATH", str(repository))
    assert git_diff(repository) is None


def test_looking_at_a_repository_changes_nothing_in_it(repository: Path) -> None:
    os.utime(repository / "code.py", (1, 1))  # git would note that the content is the same
    before = (repository / ".git/index").read_bytes()
    assert git_state(JobEnvironment(), repository).dirty == "false"
    assert (repository / ".git/index").read_bytes() == before


def test_artifacts_are_the_packages_and_the_diff(repository: Path) -> None:
    assert artifacts(JobEnvironment(), repository).keys() == {"packages.txt"}
    (repository / "code.py").write_text("2")
    assert artifacts(JobEnvironment(), repository)["git/diff.patch"] == git_diff(repository)
    assert artifacts(JobEnvironment(git_commit="4f2a"), repository).keys() == {"packages.txt"}, (
        "an image's code is elsewhere"
    )


def test_every_package_has_a_line() -> None:
    first, *lines = artifacts(JobEnvironment(), Path("/"))["packages.txt"].decode().splitlines()
    assert first == f"# Python {platform.python_version()}"
    names = [line.partition("==")[0].lower().replace("_", "-").replace(".", "-") for line in lines]
    assert names == sorted(set(names))
    assert f"numpy=={np.__version__}" in lines
    assert f"pytest=={pytest.__version__}" in lines


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--lr=0.1", "--token-count", "5", "--max-tokens=9"], ["--lr=0.1", "--token-count", "5", "--max-tokens=9"]),
        (["--password=a b", "--epochs", "3"], ["--password=***", "--epochs", "3"]),
        (["--hf-token", "abc", "--epochs", "3"], ["--hf-token", "***", "--epochs", "3"]),
        (["--ask-password", "--epochs", "3"], ["--ask-password", "--epochs", "3"]),
        (["--password-file", "/run/p"], ["--password-file", "/run/p"]),
        (["WANDB_API_KEY=abc", "python"], ["WANDB_API_KEY=***", "python"]),
        (["--set", "model.secretKey=abc"], ["--set", "model.secretKey=***"]),
        (["--set=store.access_key=abc"], ["--set=store.access_key=***"]),
        (["postgresql://u:p/@w@host/db", "a@b"], ["postgresql://***@host/db", "a@b"]),
        (["--uri=https://ghp_abc@github.com/x"], ["--uri=https://***@github.com/x"]),
        (["http://host:5000/path", "models:/digits@champion"], ["http://host:5000/path", "models:/digits@champion"]),
        (["s3://bucket/key@2"], ["s3://bucket/key@2"]),
        (["https://h/x?a=1&X-Amz-Signature=abc&b=2"], ["https://h/x?a=1&X-Amz-Signature=***&b=2"]),
        (["host=db password=abc user=u"], ["host=db password=*** user=u"]),
        (['{"password": "a b", "lr": 1}'], ['{"password": ***, "lr": 1}']),
        (["-H", "Authorization: Bearer abc"], ["-H", "Authorization: Bearer ***"]),
    ],
)
def test_secrets_on_the_command_line_are_not_recorded(
    arguments: list[str], shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/trainyard", *arguments])
    expected = ["trainyard", *shown]
    assert describe_machine(JobEnvironment(), device="x")["command"] == expected
    assert tags(JobEnvironment(), GitState())["mlflow.source.name"] == shlex.join(expected)


DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("environment", "digest"),
    [
        (JobEnvironment(), None),
        (JobEnvironment(image="trainyard/trainer:0.1.0"), None),
        (JobEnvironment(image=f"registry:5000/trainer:0.1.0@{DIGEST}"), DIGEST),
        (JobEnvironment(image="trainer:0.1.0", image_digest=DIGEST), DIGEST),
        (JobEnvironment(image="trainer@sha256:abc"), None),
    ],
)
def test_the_digest_of_the_image_is_what_is_told(environment: JobEnvironment, digest: str | None) -> None:
    assert tags(environment, GitState()).get("trainyard.image_digest") == digest
    assert describe_machine(environment, device="x")["image_digest"] == digest


def test_tags_have_only_what_is_known() -> None:
    found = tags(
        JobEnvironment(pod_name="p", node_name="n"),
        GitState(commit="4f2a", dirty="true"),
        config_hash="c",
        dataset_version="d",
    )
    ours = {name.removeprefix("trainyard."): value for name, value in found.items() if name.startswith("trainyard.")}
    assert ours == {
        "pod_name": "p",
        "node_name": "n",
        "git_commit": "4f2a",
        "git_dirty": "true",
        "config_hash": "c",
        "dataset_version": "d",
    }


def test_a_user_without_a_name_gets_no_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert tags(JobEnvironment(), GitState())["mlflow.user"] == "somebody"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 1_234_567)  # no passwd entry, as in OpenShift
    assert "mlflow.user" not in tags(JobEnvironment(), GitState())


def test_the_machine_is_described_in_json() -> None:
    found = json.loads(json.dumps(describe_machine(JobEnvironment(pod_name="p", node_name="n"), device="CPU")))
    assert (found["python"], found["device"], found["pod"], found["node"]) == (
        platform.python_version(),
        "CPU",
        "p",
        "n",
    )
    assert found["cpu"]
    assert 1 <= found["cpus"] <= found["cpus_of_machine"]
    assert found["memory_of_machine_bytes"] > 2**28
    assert found["packages"]["numpy"] == np.__version__


def test_sizes_of_memory_are_read_or_unknown(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 5 kB\nMemTotal:       16384 kB\n")
    assert memory_of_machine(tmp_path / "meminfo") == 16 * 2**20
    assert memory_of_machine(tmp_path / "none") is None
    assert memory_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("1048576\n")
    assert memory_limit(tmp_path) == 2**20


class FakeCuda:
    """The part of torch.cuda that is asked; no test machine has a GPU."""

    def __init__(self, gpus: int) -> None:
        self._gpus = gpus
        self.nccl = SimpleNamespace(version=lambda: (2, 21, 5))

    def is_available(self) -> bool:
        return self._gpus > 0

    def device_count(self) -> int:
        return self._gpus

    def get_device_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(
            name=f"NVIDIA {index}", total_memory=80 * 2**30, major=9, minor=0, multi_processor_count=132
        )


@pytest.fixture
def with_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def pretend(gpus: int) -> None:
        torch = SimpleNamespace(
            cuda=FakeCuda(gpus),
            version=SimpleNamespace(cuda="12.4"),
            backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 90100)),
            distributed=SimpleNamespace(is_nccl_available=lambda: True),
        )
        monkeypatch.setitem(sys.modules, "torch", torch)

    return pretend


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Tue Jan 14 05:00:00 UTC 2026",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (root@host)",
    ],
)
def test_gpus_and_their_versions_are_described(with_gpus: Callable[[int], None], line: str, tmp_path: Path) -> None:
    with_gpus(2)
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n")
    assert describe_gpus(tmp_path / "version") == {
        "gpus": [
            {
                "name": f"NVIDIA {index}",
                "memory_bytes": 80 * 2**30,
                "compute_capability": "9.0",
                "multiprocessors": 132,
            }
            for index in range(2)
        ],
        "gpu_driver": "570.86.15",
        "cuda": "12.4",
        "cudnn": 90100,
        "nccl": "2.21.5",
    }


def test_without_a_gpu_nothing_is_said_of_one(with_gpus: Callable[[int], None]) -> None:
    with_gpus(0)
    assert describe_gpus() == {}


def test_a_driver_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert driver_version(tmp_path / "none") is None
    (tmp_path / "version").write_text("something else\n")
    assert driver_version(tmp_path / "version") is None


def test_dataset_version_follows_the_content() -> None:
    data = np.arange(6)
    assert dataset_version(data) == dataset_version(np.arange(6))
    assert len({dataset_version(each) for each in (data, data + 1, data.reshape(2, 3), data.astype(float))}) == 4
