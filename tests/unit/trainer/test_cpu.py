"""How many threads a container gets."""

import os
from pathlib import Path

import pytest
from trainyard.cpu import available_cpus, limit_threads

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cpus"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", CORES), ("6400000 100000", CORES)]
)
def test_cgroup_version_2(tmp_path: Path, limit: str, cpus: int) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("100000", 1), ("-1", CORES)])
def test_cgroup_version_1(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == cpus


def test_no_cgroup(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == CORES


def test_the_user_may_choose_the_threads() -> None:
    chosen = {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}
    limit_threads(chosen, 1)
    assert chosen == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}
    unset: dict[str, str] = {}
    limit_threads(unset, 2)
    assert unset == {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
