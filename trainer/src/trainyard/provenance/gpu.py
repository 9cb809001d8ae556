"""GPUs, as torch sees them, and their driver."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_DRIVER: Final = Path("/proc/driver/nvidia/version")


def describe_gpus(driver: Path = _DRIVER) -> Mapping[str, Any]:
    """Name and memory of each GPU; versions of CUDA, cuDNN, NCCL and the driver. Empty without a GPU.

    Only where torch is imported already: to import it takes seconds.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    each = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "gpus": [
            {
                "name": gpu.name,
                "memory_bytes": gpu.total_memory,
                "compute_capability": f"{gpu.major}.{gpu.minor}",
                "multiprocessors": gpu.multi_processor_count,
            }
            for gpu in each
        ],
        "gpu_driver": driver_version(driver),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else None,
    }


def driver_version(file: Path = _DRIVER) -> str | None:
    """Such as `570.86.15`; None where NVIDIA's kernel module is not loaded."""
    try:
        found = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1] if found else None
