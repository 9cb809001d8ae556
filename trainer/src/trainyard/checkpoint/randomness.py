"""The random number generators of a process: Python's, numpy's and torch's global ones."""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def state() -> dict[str, Any]:
    """Of all of them, as they are."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore(saved: Mapping[str, Any]) -> None:
    """Go on there; states of GPUs that this process does not see are left out."""
    random.setstate(saved["python"])
    np.random.set_state(saved["numpy"])
    torch.set_rng_state(saved["torch"])
    for device, of_device in enumerate(saved["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(of_device, device)


def seed_all(seed: int) -> None:
    """Begin a sequence that nothing else uses."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_for(*parts: object) -> int:
    """64 bits that depend on `parts` alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
