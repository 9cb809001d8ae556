"""What one log call takes from the training thread: ours, and MLflow's client in its three ways, in turns against one server."""

import atexit
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from mmap import mmap
from multiprocessing import get_context

from tests.bench.measure import Times, each_call, times, typical
from tests.bench.table import Row, show, times_better, verdict

_ROUNDS = {1: 5, 10: 3, 100: 3}
"""By the number of values."""
_WARM_UP = 5
_RECORD = b"x" * 30


@dataclass(frozen=True, slots=True)
class Way:
    """One way to record values. Each has a process of its own, so that no other's threads are in it."""

    name: str
    prepare: Callable[[], Callable[[int], Callable[[int], object]]]
    """Runs once in that process; gives what makes, for a number of values, the call to be timed."""
    calls: int
    """In a round of one value; a quarter of it in one of a hundred, which the server takes seconds for."""
    settle: Callable[[], None] | None = None
    """After each round, not timed: everything is delivered."""
    environ: dict[str, str] = field(default_factory=dict)


def _values(size: int) -> dict[str, float]:
    return {f"train/metric_{number}": number + 0.5 for number in range(size)}


def _prepare_ours() -> Callable[[int], Callable[[int], object]]:
    import trainyard

    run = trainyard.run("bench").start()
    # Nobody delivers this record: an end that waits for delivery would wait for ever.
    atexit.register(run.end, "KILLED")
    log = run.log_metrics

    def of_size(size: int) -> Callable[[int], object]:
        values = _values(size)
        return lambda step: log(values, step=step)

    return of_size


def _prepare_mlflow(synchronous: bool) -> Callable[[int], Callable[[int], object]]:
    import mlflow

    mlflow.set_experiment("bench")
    mlflow.start_run()

    def of_size(size: int) -> Callable[[int], object]:
        values = _values(size)
        if size == 1:
            ((key, value),) = values.items()
            return lambda step: mlflow.log_metric(key, value, step=step, synchronous=synchronous)
        return lambda step: mlflow.log_metrics(values, step=step, synchronous=synchronous)

    return of_size


def _prepare_sync() -> Callable[[int], Callable[[int], object]]:
    return _prepare_mlflow(synchronous=True)


def _prepare_async() -> Callable[[int], Callable[[int], object]]:
    return _prepare_mlflow(synchronous=False)


def _settle_async() -> None:
    import mlflow

    mlflow.flush_async_logging()


def _prepare_map() -> Callable[[int], Callable[[int], object]]:
    """The least that a record costs in Python: no CRC, no encoding."""
    file = os.open("/var/tmp/bench.map", os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(file, 0, 2**20)
    mapped, at = mmap(file, 2**20), 0
    mapped[:] = bytes(len(mapped))

    def append(_step: int) -> None:
        nonlocal at
        end = at + len(_RECORD)
        mapped[at:end] = _RECORD
        at = end if end < 2**19 else 0

    return lambda _size: append


def _prepare_write() -> Callable[[int], Callable[[int], object]]:
    file = os.open("/var/tmp/bench.write", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    pack = struct.Struct("<II").pack
    return lambda _size: lambda _step: os.write(file, pack(len(_RECORD), zlib.crc32(_RECORD)) + _RECORD)


_OURS = Way("ours", _prepare_ours, calls=10_000)
_PEERS = (
    Way("mlflow sync", _prepare_sync, calls=100),
    Way("mlflow async", _prepare_async, calls=100, settle=_settle_async),
    Way(
        "mlflow async, buffered 1 s",
        _prepare_async,
        calls=1000,
        settle=_settle_async,
        environ={"MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "1"},
    ),
)
_LIMITS = (
    Way("plain Python: 30 bytes into a mapped file", _prepare_map, calls=10_000),
    Way("plain Python: CRC-32 and write() of 30 bytes", _prepare_write, calls=10_000),
)

_of_size: Callable[[int], Callable[[int], object]]
_step = 0


def _begin(way: Way) -> None:
    """In the new process."""
    global _of_size
    os.environ.update(way.environ)
    _of_size = way.prepare()


def _round(way: Way, size: int) -> Times:
    global _step
    call = _of_size(size)
    each_call(call, range(_step, _step + _WARM_UP))  # what is new at the first call is no part of a round
    _step += _WARM_UP
    calls = way.calls // 4 if size == 100 else way.calls
    taken = each_call(call, range(_step, _step + calls))
    _step += calls
    if way.settle is not None:
        way.settle()
    return times(taken)


def measure() -> dict[tuple[str, int], Times]:
    """The typical times by way and number of values."""
    found: dict[tuple[str, int], list[Times]] = {}
    with ExitStack() as processes:
        ways = [(way, processes.enter_context(_process(way))) for way in (_OURS, *_PEERS, *_LIMITS)]
        for ready in [process.submit(int) for _, process in ways]:
            ready.result()
        for size, rounds in _ROUNDS.items():
            for _ in range(rounds):
                for way, process in ways:
                    if size == 1 or way not in _LIMITS:
                        found.setdefault((way.name, size), []).append(process.submit(_round, way, size).result())
    return {key: typical(taken) for key, taken in found.items()}


def _process(way: Way) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin, initargs=(way,))


def main() -> None:
    """Measure and print."""
    found = measure()
    rows = []
    for size in _ROUNDS:
        ours = found[_OURS.name, size]
        goal = verdict("<= 2 / 10 us", ours.median <= 2 and ours.p99 <= 10) if size == 1 else ""
        what = f"log call, {size} value{'s' if size > 1 else ''}"
        rows += [_compare(what, ours, peer.name, found[peer.name, size], goal) for peer in _PEERS]
    rows += [_compare("log call, 1 value", found[_OURS.name, 1], way.name, found[way.name, 1]) for way in _LIMITS]
    show(
        "Time of a log call: median / p99, each of the median round",
        rows,
        "Calls right after one another, the ways in turns. Ours goes to the spool; nobody delivers it meanwhile.",
    )


def _compare(what: str, ours: Times, name: str, peer: Times, goal: str = "") -> Row:
    ratio = f"{times_better(ours.median, peer.median)} / {times_better(ours.p99, peer.p99)}"
    return Row(what, str(ours), f"{name}: {peer}", ratio, goal)


if __name__ == "__main__":
    main()
