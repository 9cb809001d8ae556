"""How many threads the math libraries may use."""

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """CPUs this process may use: the scheduler's affinity, cut to the cgroup's CPU limit (version 2 or 1), at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, _quota(cgroup) or cpus))


def limit_threads(environ: MutableMapping[str, str], cpus: int) -> None:
    """Make OpenMP and OpenBLAS start `cpus` threads, unless the user said otherwise.

    They count the node's cores and know no CPU limit: 64 threads on 1 CPU run several times slower than one.
    Only has an effect before numpy and torch are imported.
    """
    environ.setdefault("OMP_NUM_THREADS", str(cpus))
    # Threads that wait by spinning fight with other pods for the cores: an epoch of digits took 9 s instead of 0.6 s on two busy ones.
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _quota(cgroup: Path) -> int | None:
    """The CPU limit, rounded up; None without a limit."""
    for read in (_quota_v2, _quota_v1):
        try:
            quota, period = read(cgroup)
        except (OSError, ValueError):
            continue
        return math.ceil(quota / period) if quota > 0 and period > 0 else None
    return None


def _quota_v2(cgroup: Path) -> tuple[int, int]:
    quota, period = (cgroup / "cpu.max").read_text().split()
    return (-1 if quota == "max" else int(quota)), int(period)


def _quota_v1(cgroup: Path) -> tuple[int, int]:
    folder = cgroup / "cpu"
    return int((folder / "cpu.cfs_quota_us").read_text()), int((folder / "cpu.cfs_period_us").read_text())
