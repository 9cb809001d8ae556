"""How many GPUs a process may use, without seconds for importing torch."""

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

_DEV = Path("/dev")


def visible_gpus(environ: Mapping[str, str], dev: Path = _DEV) -> int:
    """GPUs of NVIDIA: what CUDA_VISIBLE_DEVICES lists, else the devices that the container was given."""
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return _listed(chosen)
    given = environ.get("NVIDIA_VISIBLE_DEVICES", "all").strip()
    present = sum(path.name.removeprefix("nvidia").isdecimal() for path in dev.glob("nvidia*"))
    if given == "all":
        return present
    return min(present, 0 if given in ("", "none", "void") else _listed(given))


def _listed(devices: str) -> int:
    """CUDA ignores what follows the first name that is no device's, such as -1."""
    return sum(1 for _ in takewhile(_is_device, (name.strip() for name in devices.split(","))))


def _is_device(name: str) -> bool:
    return name.isdecimal() or name.startswith(("GPU-", "MIG-"))
