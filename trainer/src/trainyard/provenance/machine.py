"""The machine that trains, for the artifact `environment.json`."""

import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainyard.cpu import available_cpus
from trainyard.environment import JobEnvironment
from trainyard.provenance.command import command
from trainyard.provenance.gpu import describe_gpus
from trainyard.provenance.image import image_digest

_PACKAGES = ("trainyard", "torch", "numpy", "scikit-learn", "scipy", "pandas", "matplotlib", "mlflow-skinny", "mlflow")
"""Those that numbers depend on most; `packages.txt` has all."""


def describe_machine(environment: JobEnvironment, *, device: str) -> dict[str, object]:
    """Python, packages, CPU, memory, GPUs, host (in a pod: the pod's name), pod, node, image and command."""
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _package_version(name))},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "device": device,
        "cpus_of_machine": os.cpu_count(),
        "cpus": available_cpus(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "memory_of_machine_bytes": memory_of_machine(),
        "memory_limit_bytes": memory_limit(),
        **describe_gpus(),
        "host": socket.gethostname(),
        "pod": environment.pod_name,
        "node": environment.node_name,
        "job_name": environment.job_name,
        "job_uid": environment.job_uid,
        "image": environment.image,
        "image_digest": image_digest(environment),
        "command": command(),
    }


def memory_of_machine(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes; None where the kernel does not say."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    kibibytes = (int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    return next((1024 * size for size in kibibytes), None)


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this container may use; None without a limit (cgroup version 2, as Kubernetes has it)."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
    except OSError:
        return None
    return int(limit) if limit.isdecimal() else None


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
