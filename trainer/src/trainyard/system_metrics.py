"""How busy each rank is: optional, since every sample is a row in the database; Prometheus keeps such things better."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist

from trainyard.distributed import World
from trainyard.tracking.run import Run


class SystemMetrics:
    """A context in which each rank measures itself every `every_s` seconds, and rank 0 records it for all.

    `system/rank_<n>/cpu_percent` (100 is one core), `memory_mib`, and on a GPU `gpu_memory_mib` and, with nvidia-ml-py,
    `gpu_percent`. `step` says at which step of the training a sample is recorded.
    """

    def __init__(self, run: Run, world: World, *, every_s: float, step: Callable[[], int]) -> None:
        self._run = run
        self._world = world
        self._every_s = every_s
        self._step = step
        self._stop = threading.Event()
        # What the ranks have met at: a sample is left there, so that nobody waits for anybody.
        self._store = dist.distributed_c10d._get_default_store() if dist.is_initialized() else None
        self._thread = threading.Thread(target=self._sample, name="system-metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        cpu_s, then = time.process_time(), time.monotonic()
        while not self._stop.wait(self._every_s):
            spent, now = time.process_time(), time.monotonic()
            sample = {"cpu_percent": 100 * (spent - cpu_s) / (now - then), **_memory(self._world.device)}
            cpu_s, then = spent, now
            try:
                samples = self._exchange(sample)
            except RuntimeError:  # rank 0, which keeps the store, has ended
                return
            for rank, each in samples.items():
                self._run.log_metrics(
                    {f"system/rank_{rank}/{name}": value for name, value in each.items()}, step=self._step()
                )

    def _exchange(self, sample: Mapping[str, float]) -> dict[int, Any]:
        """Leave ours; on rank 0 the newest of every rank that has left one."""
        if self._store is None:
            return {0: sample}
        self._store.set(_key(self._world.rank), json.dumps(sample))
        if self._world.rank > 0:
            return {}
        there = [rank for rank in range(self._world.size) if self._store.check([_key(rank)])]
        return {rank: json.loads(self._store.get(_key(rank))) for rank in there}


def _key(rank: int) -> str:
    return f"system metrics of rank {rank}"


def _memory(device: torch.device, status: Path = Path("/proc/self/status")) -> dict[str, float]:
    """Resident memory of this process, and what it has on its GPU, in MiB."""
    lines = (line.split() for line in status.read_text().splitlines())
    found = {"memory_mib": next(int(line[1]) / 1024 for line in lines if line[0] == "VmRSS:")}
    if device.type == "cuda":
        found["gpu_memory_mib"] = torch.cuda.memory_reserved(device) / 2**20
        with contextlib.suppress(ModuleNotFoundError):  # nvidia-ml-py
            found["gpu_percent"] = float(torch.cuda.utilization(device))
    return found
