"""State as tensors on the CPU and plain values, which `torch.load(weights_only=True)` reads, and back."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

_PLAIN: Final = frozenset({NoneType, bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device})
_ARRAY: Final = "trainyard.numpy"
"""Key of the bytes of a numpy array or number: numpy's own pickles are not among what is read safely."""


class Snapshots:
    """Makes copies of state, again and again into the same memory. A copy is good until the next one is made."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of `state` as it is now, GPUs included. Raises TypeError naming what cannot be saved."""
        copy = _Copy(self._buffers)
        taken = {name: copy.of(value, name) for name, value in state.items()}
        self._buffers = copy.buffers
        for device in copy.devices:
            torch.cuda.current_stream(device).synchronize()
        return taken


class _Copy:
    """One pass over a state."""

    def __init__(self, reusable: Mapping[str, Tensor]) -> None:
        self.buffers: dict[str, Tensor] = {}
        self.devices: set[torch.device] = set()
        self._reusable = reusable
        # With the source: while it is held, nothing else can be at its address.
        self._copied: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def of(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return self._tensor(value.detach(), path)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value, path)
        if kind in (dict, OrderedDict, Counter):
            return self._mapping(value, path)
        if kind in (list, tuple, set):
            return kind(self.of(each, f"{path}.{position}") for position, each in enumerate(value))
        raise TypeError(
            f"{path}: a {kind.__name__} cannot be saved in a checkpoint; use tensors, numbers, texts, and lists and dicts of them"
        )

    def _mapping(self, value: Any, path: str) -> Any:
        if strange := [key for key in value if type(key) not in _PLAIN]:
            raise TypeError(f"{path}: the key {strange[0]!r} cannot be saved in a checkpoint; use numbers or texts")
        copied = type(value)()
        for key, each in value.items():
            copied[key] = self.of(each, f"{path}.{key}")
        if hasattr(value, "_metadata"):  # versions of the modules of a state_dict
            copied._metadata = self.of(value._metadata, f"{path}._metadata")
        return copied

    def _array(self, value: Any, path: str) -> dict[str, Any]:
        if value.dtype.kind not in "biufc":
            raise TypeError(f"{path}: numpy's {value.dtype} cannot be saved in a checkpoint")
        # As bytes: torch has not all of these types, and cannot save all that it has.
        content = torch.from_numpy(np.frombuffer(value.tobytes(), dtype=np.uint8).copy())
        shape = value.shape if isinstance(value, np.ndarray) else None
        return {_ARRAY: content, "dtype": value.dtype.str, "shape": shape}

    def _tensor(self, source: Tensor, path: str) -> Tensor:
        if type(source) is not Tensor or source.layout != torch.strided or source.is_quantized:
            return source.cpu().clone()
        same = (source.data_ptr(), source.dtype, source.shape, source.stride(), source.device)
        if source.numel() and same in self._copied:  # weights that several modules share
            return self._copied[same][1]
        buffer = self._reusable.get(path)
        pinned = source.is_cuda
        if (
            buffer is None
            or buffer.shape != source.shape
            or buffer.dtype != source.dtype
            or buffer.is_pinned() != pinned
        ):
            buffer = torch.empty_like(source, device="cpu", pin_memory=pinned, requires_grad=False)
        buffer.copy_(source, non_blocking=pinned)
        if pinned:
            self.devices.add(source.device)
        self.buffers[path] = buffer
        self._copied[same] = source, buffer
        return buffer


def original(value: Any) -> Any:
    """What a copy was made of: numpy's values are numpy's again."""
    if type(value) is dict and _ARRAY in value:
        array = value[_ARRAY].numpy().view(value["dtype"])
        return array[0] if value["shape"] is None else array.reshape(value["shape"])
    if isinstance(value, dict):
        for key, each in value.items():  # in place, to keep what a state_dict has as attributes
            value[key] = original(each)
        return value
    if type(value) in (list, tuple, set):
        return type(value)(original(each) for each in value)
    return value
