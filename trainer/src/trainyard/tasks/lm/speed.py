"""How fast training is, and what share of the device's speed that is."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from trainyard.tasks.lm.config import ModelConfig

_MEASURE_EVERY: Final = 10
_PEAKS: Final = {
    # Dense bfloat16 products a second, from NVIDIA's data sheets; by the name that the driver gives.
    r"A10\b": 125e12,
    r"A30\b": 165e12,
    r"A40\b": 149.7e12,
    r"A100\b": 312e12,
    r"L4\b": 121e12,
    r"L40S\b": 362e12,
    r"H100 PCIe": 756e12,
    r"H100 NVL": 835e12,
    r"H100\b": 989e12,
    r"H200\b": 989e12,
    r"GH200\b": 989e12,
    r"B200\b": 2250e12,
    r"RTX 4090\b": 165.2e12,
}


class Speed:
    """Measures steps, without what is done between them."""

    def __init__(self, *, tokens_per_step: int, flops_per_token: float | None, peak: float | None) -> None:
        """`flops_per_token`, `peak`: None where one of them is not known; `peak` of all devices together, in FLOP/s."""
        self._tokens = tokens_per_step
        self._share_per_token = flops_per_token / peak if flops_per_token and peak else None
        self._seconds = 0.0
        self._steps = 0
        self.tokens_per_second = 0.0
        """Of the last steps that were measured."""

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a step that ends when the device has done it."""
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start
        self._steps += 1

    def metrics(self) -> Mapping[str, float]:
        """`tokens_per_second`, and `mfu` where it can be known: after each tenth step; else nothing."""
        if self._steps < _MEASURE_EVERY:
            return {}
        self.tokens_per_second = self._steps * self._tokens / self._seconds
        self._seconds, self._steps = 0.0, 0
        mfu = {} if self._share_per_token is None else {"mfu": self.tokens_per_second * self._share_per_token}
        return {"tokens_per_second": self.tokens_per_second, **mfu}


def flops_per_token(parameters: int, config: ModelConfig) -> float:
    """6 N + 12 L H Q T: forward and backward, without what is computed twice to save memory.

    N parameters of matrices that are multiplied, L layers, H heads of length Q, T positions; from appendix B of PaLM
    (Chowdhery et al. 2022, arXiv:2204.02311), which defines the model FLOPs utilization (MFU) by it.
    """
    return 6 * parameters + 12 * config.layers * config.width * config.context


def peak_flops(device_name: str) -> float | None:
    """FLOP/s of dense bfloat16 products that the maker promises; None for a device that is not known here."""
    return next((peak for pattern, peak in _PEAKS.items() if re.search(rf"\b{pattern}", device_name)), None)
