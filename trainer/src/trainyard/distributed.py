"""Processes that train one model together: how they find each other, and what they tell each other."""

import contextlib
import hashlib
import os
import pickle
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, TrainyardError
from trainyard.interruption import of_this_process

_COLLECTIVE_TIMEOUT: Final = timedelta(minutes=10)
"""How long a collective operation waits for the other ranks before it fails."""
_TRIAL_TIMEOUT: Final = timedelta(seconds=30)
_STORE_TIMEOUT_S: Final = 10.0
_HANG_UP_S: Final = 0.1
_POLL_S: Final = 0.1
_PAUSE_S: Final = 1.0
_SAY_EVERY_S: Final = 30.0
_T = TypeVar("_T", Tensor, float)
_S = TypeVar("_S")


class DistributedError(TrainyardError):
    """The processes that should train together did not find each other; the message names address and rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The processes that train together, as one of them sees it."""

    rank: int = 0
    local_rank: int = 0
    """Among the processes of the same node."""
    size: int = 1
    device: torch.device
    """What this one trains on."""

    @property
    def description(self) -> str:
        """For people: `2 processes, each on CPU, 2 thread(s)`."""
        gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if gpu else f"CPU, {torch.get_num_threads()} thread(s)"
        return name if self.size == 1 else f"{self.size} processes, each on {name}"


def join(environment: JobEnvironment, *, device: str, timeout_s: float = 600) -> World:
    """Meet the other ranks at MASTER_ADDR:MASTER_PORT, and be able to talk to them; alone if WORLD_SIZE is 1.

    `device`: `auto`, `cpu` or `cuda`. A process group that exists already is taken as it is. Tries again, for `timeout_s`
    seconds, as long as the others are not there or go away meanwhile, as pods of a former attempt do. Main thread only.
    Raises ConfigError if the device or the address does not exist, DistributedError, and Interrupted.
    """
    chosen = _device(device, environment.local_rank)
    if environment.world_size > 1 and not dist.is_initialized():
        meeting = _Meeting(environment.rank, environment.world_size, timeout_s)
        meeting.attend("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    return World(rank=environment.rank, local_rank=environment.local_rank, size=environment.world_size, device=chosen)


def leave() -> None:
    """Be alone again."""
    if not dist.is_initialized():
        return
    # Before torch 2.8 the group holds the GIL while it waits for gloo's threads, which may need it to let go of a last
    # tensor; gloo by itself does not. So that it goes last:
    gloo = _gloo()
    dist.destroy_process_group()
    del gloo


def any_rank(flag: bool) -> bool:
    """Whether one of the ranks says True. Does not wait for a GPU, unless all that the ranks have in common is NCCL."""
    if not dist.is_initialized():
        return flag
    said = torch.tensor(int(flag), dtype=torch.int32, device=_meeting_device(torch.device("cpu")))
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return bool(said.item())


def total(value: _T) -> _T:
    """Sum over the ranks: of a tensor, elementwise and on its device, or of a float."""
    if not dist.is_initialized():
        return value
    if not isinstance(value, Tensor):
        return float(total(torch.tensor(value, dtype=torch.float64)).item())
    # A copy: the sum is made in place.
    summed = value.detach().to(_meeting_device(value.device), copy=True)
    dist.all_reduce(summed)
    result: _T = summed.to(value.device)
    return result


def from_rank_0(value: Any) -> Any:
    """What rank 0 passes, anything that can be pickled; what the other ranks pass is ignored."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """What each rank passes, by rank; anything that can be pickled."""
    if not dist.is_initialized():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def parallel(model: nn.Module, world: World) -> nn.Module:
    """`model` with gradients that are the mean over the ranks; the model itself if there is one rank.

    For the gradient of the whole batch, each rank's loss is the sum over its share * world.size / size of the whole batch.
    """
    if world.size == 1:
        return model
    if world.device.type == "cuda":
        return DistributedDataParallel(model, device_ids=[world.device])
    # True of convolutions of one channel, and of no consequence on a CPU.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    wrapped = DistributedDataParallel(model)
    _settle_order(wrapped, model)
    return wrapped


def plain(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel and `torch.compile`, or `model` itself."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def parameter_hash(model: nn.Module) -> str:
    """`sha256:` and 12 hex digits over names, types, shapes and bytes of parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(plain(model).state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        else:  # what a module's get_extra_state returns
            digest.update(f"{name}\n".encode() + pickle.dumps(value))
    return f"sha256:{digest.hexdigest()[:12]}"


def _device(name: str, local_rank: int) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: this process sees no GPU; use device=auto or request one for the pod")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"LOCAL_RANK={local_rank}: this process sees {torch.cuda.device_count()} GPU(s), and each process of a node "
            "needs one; start as many with --nproc-per-node, or request more for the pod"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _gloo() -> object:
    """What the default group uses on the CPU, if anything."""
    cpu, group = torch.device("cpu"), dist.group.WORLD
    return group._get_backend(cpu) if cpu in group._device_types else None


def _settle_order(wrapped: nn.Module, model: nn.Module) -> None:
    """Let one backward pass go by that changes nothing.

    DistributedDataParallel puts the gradients into another order after the first, in which gloo's sums round differently: a
    training that goes on after a checkpoint would differ from an undisturbed one in the last bits.
    """
    own = vars(model).get("forward")
    model.forward = lambda: sum(parameter.sum() for parameter in model.parameters() if parameter.requires_grad) * 0
    try:
        wrapped().backward()
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own
    model.zero_grad()


def _meeting_device(device: torch.device) -> torch.device:
    """Where a tensor of `device` must be to be reduced: on the GPU, where somebody else made a group of NCCL alone."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else device


class _Meeting:
    """The ranks meet at a store that rank 0 keeps at MASTER_ADDR:MASTER_PORT.

    Each writes a word of its own there. When there is one of every rank, rank 0 calls them together by these words, so
    that nobody takes a call to a predecessor for its own. They try whether all can talk to all. Where that fails, because
    one has died meanwhile, each comes back with a new word.
    """

    def __init__(self, rank: int, size: int, timeout_s: float) -> None:
        self._rank = rank
        self._size = size
        self._timeout_s = timeout_s
        self._host, self._port = _address(os.environ)
        self._interruption = of_this_process()
        self._began = self._said = time.monotonic()

    def attend(self, backend: str) -> None:
        """Make the default process group. Raises DistributedError and Interrupted."""
        while True:
            try:
                store = self._open_store()
                name = self._call_all(store) if self._rank == 0 else self._await_call(store)
                self._try_all(dist.PrefixStore(f"{name}/trial", store))
                break
            except (OSError, RuntimeError) as error:
                reason = _first_line(error)
            self._wait(reason, _PAUSE_S)
        store.set_timeout(_COLLECTIVE_TIMEOUT)
        dist.init_process_group(
            backend,
            store=dist.PrefixStore(name, store),
            rank=self._rank,
            world_size=self._size,
            timeout=_COLLECTIVE_TIMEOUT,
        )

    def _open_store(self) -> dist.Store:
        # Under torchrun its agent keeps the store.
        keeps = self._rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        if not keeps:
            _knock(self._host, self._port)
        # Apart, since it waits for ever where somebody else accepts the connection and says nothing.
        opened: Future[dist.Store] = Future()
        threading.Thread(target=_settle, args=(opened, partial(self._make_store, keeps=keeps)), daemon=True).start()
        end = min(time.monotonic() + 2 * _STORE_TIMEOUT_S, self._began + self._timeout_s)
        while not opened.done():
            if time.monotonic() > end:
                raise TimeoutError("what listens there does not answer")
            self._interruption.sleep(_POLL_S / 10)
        return opened.result()

    def _make_store(self, *, keeps: bool) -> dist.Store:
        return dist.TCPStore(
            # Its name may not be known to rank 0 itself yet.
            "localhost" if keeps else self._host,
            self._port,
            is_master=keeps,
            timeout=timedelta(seconds=_STORE_TIMEOUT_S),
            wait_for_workers=False,
            multi_tenant=True,
            use_libuv=False,  # Debian's torch has none
        )

    def _call_all(self, store: dist.Store) -> str:
        """Rank 0: wait for the others; returns the name of the group."""
        answered: Mapping[int, bytes] = {}
        if store.check(["call"]):
            answered = dict(zip(range(1, self._size), store.get("call").split()[1:], strict=False))
        while True:
            words = {rank: store.get(f"rank {rank}") for rank in range(1, self._size) if store.check([f"rank {rank}"])}
            missing = [rank for rank in range(1, self._size) if rank not in words or words[rank] == answered.get(rank)]
            if not missing:
                name = uuid4().hex
                store.set("call", b" ".join([name.encode(), *(words[rank] for rank in sorted(words))]))
                return name
            self._wait(f"not there yet: {_ranks(missing)}", _POLL_S)

    def _await_call(self, store: dist.Store) -> str:
        """The other ranks: wait for a call of rank 0; returns the name of the group."""
        word = uuid4().hex.encode()
        store.set(f"rank {self._rank}", word)
        while True:
            if store.check(["call"]):
                name, *called = bytes(store.get("call")).split()
                if word in called:
                    return name.decode()
            self._wait("rank 0 is there and waits for others", _POLL_S)

    def _try_all(self, store: dist.Store) -> None:
        """Talk to all others. Apart from the default group, which cannot be made again cleanly where its making failed."""
        group = dist.ProcessGroupGloo(store, self._rank, self._size, _TRIAL_TIMEOUT)
        group.barrier().wait()

    def _wait(self, reason: str, pause_s: float) -> None:
        now = time.monotonic()
        waited_s = now - self._began
        where = f"rank {self._rank} of {self._size} at {self._host}:{self._port}"
        if waited_s >= self._timeout_s:
            raise DistributedError(
                f"{where}: the ranks did not come together within {self._timeout_s:.0f} s; {reason}. Does every pod of the "
                "Job run (kubectl get pods), does MASTER_ADDR name the one of rank 0, and may they reach each other on all "
                "ports (network policies)?"
            )
        if now - self._said >= _SAY_EVERY_S:
            self._said = now
            print(
                f"trainyard: {where} waits for the others: {waited_s:.0f} of {self._timeout_s:.0f} s, {reason}",
                file=sys.stderr,
                flush=True,
            )
        self._interruption.sleep(pause_s)


def _address(environ: Mapping[str, str]) -> tuple[str, int]:
    host, port = environ.get("MASTER_ADDR", ""), environ.get("MASTER_PORT", "")
    if host and port.isdecimal() and 0 < int(port) < 2**16:
        return host, int(port)
    raise ConfigError(
        f"MASTER_ADDR={host} MASTER_PORT={port}: must be host and port of rank 0 where WORLD_SIZE is above 1; "
        "`trainyard launch` sets them"
    )


def _knock(host: str, port: int) -> None:
    """Raise OSError unless somebody listens. The store would try by itself, but without a word, or with pages of them."""
    with socket.create_connection((host, port), timeout=_STORE_TIMEOUT_S) as connection:
        connection.settimeout(_HANG_UP_S)
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                raise ConnectionResetError("what listens there closes the connection")


def _settle(future: "Future[_S]", make: Callable[[], _S]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:  # whoever waits raises it
        future.set_exception(error)


def _first_line(error: Exception) -> str:
    """Without the stack that C++ appends."""
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0][:200]


def _ranks(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return f"rank {shown}" if len(ranks) <= 8 else f"rank {shown} and {len(ranks) - 8} more"
