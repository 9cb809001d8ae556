"""What a device can do to be faster: bfloat16 and compiled kernels."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from trainyard.errors import ConfigError


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether matrix products are made in bfloat16. `precision`: `auto`, `float32` or `bfloat16`."""
    if precision == "auto":
        return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return precision == "bfloat16"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Around the forward pass. Weights, gradients and the loss stay float32, so nothing needs to be scaled."""
    wanted: AbstractContextManager[object] = nullcontext()
    if uses_bfloat16(precision, device):
        wanted = torch.autocast(device.type, dtype=torch.bfloat16)
    return wanted


def refuse_impossible(compile: str) -> None:
    """Raises ConfigError where torch.compile is asked for and cannot work."""
    if compile == "true" and not _has_compiler():
        raise ConfigError(
            "compile=true: there is no C++ compiler, which torch.compile needs; install g++, or use compile=auto"
        )


def compiled(model: nn.Module, compile: str, device: torch.device, say: Callable[[str], None]) -> nn.Module:
    """`model` with kernels of its own, where that is wanted and possible. `compile`: `auto`, `true` or `false`."""
    if compile == "true" or (compile == "auto" and device.type == "cuda" and _has_compiler()):
        return torch.compile(model)
    if compile == "auto" and device.type == "cuda":
        say("compile=auto: no C compiler here, which torch.compile needs; training goes on without it")
    return model


def _has_compiler() -> bool:
    """Triton and Inductor build what they generate with it."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)
