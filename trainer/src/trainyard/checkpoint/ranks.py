"""What the ranks of a training have to agree on, so that none waits for another one that has left."""

import io
import signal
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from trainyard import distributed
from trainyard.checkpoint.errors import CheckpointError
from trainyard.errors import ConfigError, Interrupted

_T = TypeVar("_T")


def own_rank() -> int:
    """0 where there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def any_of(*flags: bool) -> tuple[bool, ...]:
    """For each flag whether one of the ranks has it: one collective operation for all of them, none for one rank."""
    if world_size() == 1:
        return flags
    return tuple(count > 0 for count in distributed.total(torch.tensor(flags, dtype=torch.int32)).tolist())


def on_rank_0(work: Callable[[], _T]) -> _T:
    """What `work` gives on rank 0, on all ranks. What it raises there is raised on all: nobody waits for what will not come."""
    if world_size() == 1:
        return work()
    if own_rank() == 0:
        try:
            result = work()
        except Exception as error:
            distributed.from_rank_0((None, _described(error)))
            raise
        distributed.from_rank_0((result, None))
        return result
    result, failure = distributed.from_rank_0(None)
    if failure is not None:
        raise _error(*failure)
    return result


def state_from_rank_0(state: Any) -> Any:
    """Tensors and plain values that rank 0 passes, on all ranks."""
    if world_size() == 1:
        return state
    sent = distributed.from_rank_0(_to_bytes(state) if own_rank() == 0 else None)
    return state if own_rank() == 0 else _from_bytes(sent)


def gather_states(state: Any) -> list[Any]:
    """Tensors and plain values that each rank passes, by rank."""
    if world_size() == 1:
        return [state]
    return [_from_bytes(each) for each in distributed.gather(_to_bytes(state))]


def _to_bytes(state: Any) -> bytes:
    """By torch's own means: plain pickle cannot take tensors of all types."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _from_bytes(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


def _described(error: Exception) -> tuple[str, list[Any]]:
    """`error` without what cannot be sent."""
    if isinstance(error, ConfigError):
        return "config", list(error.problems)
    if isinstance(error, Interrupted):
        return "interrupted", [error.exit_code - 128]
    return "other", [f"rank 0: {error}"]


def _error(kind: str, about: list[Any]) -> Exception:
    if kind == "config":
        return ConfigError(*about)
    if kind == "interrupted":
        return Interrupted(about[0], signal.Signals(about[0]).name)
    return CheckpointError(*about)
