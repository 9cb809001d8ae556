"""Writers: processes that log what their plans say, until they are done or killed. Run by `processes.Crew`.

`python -m tests.unit.delivery.crew EXPERIMENT JOURNAL ORDERS` forks one process for each order. A journal has a byte for
each call that has returned: it survives the writer, and tells how far it came.
"""

import contextlib
import heapq
import json
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trainyard
import trainyard.shipping.mlflow.rest
import trainyard.tracking.session
from trainyard.spool import writer
from trainyard.tracking.run import Run

from tests.unit.delivery.ambush import Ambush, lay
from tests.unit.delivery.plan import Call, End, LogBytes, LogMetrics, LogParams, Pause, SetTags, make_plan

SEGMENT_BYTES, RESERVE_BYTES = 2**15, 2**14
"""Small ones, so that a short life has many."""

_clock = threading.local()


@dataclass(frozen=True, slots=True)
class Order:
    """What one writer is to do, and what becomes of it."""

    seed: int
    end: End
    signal: int | None = None
    after_s: float = 0.0
    """Of the signal, from the first call on."""
    ambush: Ambush | None = None


def journal_of(journal: Path, name: str, thread: int) -> Path:
    """Its size is the number of calls that have returned."""
    return journal / f"{name}.{thread}"


@contextlib.contextmanager
def rehearsal() -> Iterator[None]:
    """Small segments, and the time that the plan says; in this process."""
    kept = writer.SEGMENT_BYTES, writer._RESERVE_BYTES, time.time_ns
    real = time.time_ns
    writer.SEGMENT_BYTES, writer._RESERVE_BYTES = SEGMENT_BYTES, RESERVE_BYTES  # type: ignore[misc]
    time.time_ns = lambda: getattr(_clock, "ns", None) or real()
    try:
        yield
    finally:
        writer.SEGMENT_BYTES, writer._RESERVE_BYTES, time.time_ns = kept  # type: ignore[misc]


def call(run: Run, what: Call) -> None:
    """Do it, at the time that the plan says."""
    match what:
        case LogMetrics():
            _clock.ns = what.time_ms * 1_000_000
            run.log_metrics(dict(what.values), step=what.step)
        case LogParams():
            run.log_params(dict(what.values))
        case SetTags():
            run.set_tags(dict(what.values))
        case LogBytes():
            run.log_bytes(what.name, what.content)
        case Pause():
            time.sleep(what.seconds)


def _log(run: Run, calls: Sequence[Call], path: Path) -> None:
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for each in calls:
        call(run, each)
        os.write(journal, b".")


def _work(order: Order, experiment: str, journal: Path, begun: int) -> None:
    plan = make_plan(order.seed, order.end)
    if order.ambush is not None:
        lay(order.ambush)
    with trainyard.run(experiment, name=plan.name, tracking=plan.tracking) as run:
        os.write(begun, b"%d\n" % os.getpid())
        paths = [journal_of(journal, plan.name, number) for number in range(len(plan.threads))]
        others = [
            threading.Thread(target=_log, args=(run, calls, path), daemon=True)
            for calls, path in zip(plan.threads[1:], paths[1:], strict=True)
        ]
        for thread in others:
            thread.start()
        _log(run, plan.threads[0], paths[0])
        for thread in others:
            thread.join()
        if plan.end == "raise":
            raise RuntimeError("as planned")
        if plan.end == "linger":
            time.sleep(60)


def _fork(order: Order, experiment: str, journal: Path, begun: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code: Any = 1
    try:
        _work(order, experiment, journal, begun)
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _kill(due: dict[int, tuple[float, int]], begun: int) -> None:
    """Send each signal at its time. A writer that never begins has met its ambush: closing the pipe tells so."""
    heap: list[tuple[float, int, int]] = []
    while True:
        wait = max(0.0, heap[0][0] - time.monotonic()) if heap else None
        if select.select([begun], [], [], wait)[0]:
            data = os.read(begun, 4096)  # lines that are shorter than a pipe's atomic write
            if not data:
                break
            for pid in map(int, data.split()):
                if pid in due:
                    after, number = due[pid]
                    heapq.heappush(heap, (time.monotonic() + after, pid, number))
        while heap and heap[0][0] <= time.monotonic():
            _, pid, number = heapq.heappop(heap)
            os.kill(pid, number)


def _main() -> None:
    experiment, journal = sys.argv[1], Path(sys.argv[2])
    orders = [
        Order(**{**each, "ambush": each["ambush"] and Ambush(**each["ambush"])}) for each in json.loads(sys.argv[3])
    ]
    read, write = os.pipe()
    with rehearsal():
        pids = [_fork(order, experiment, journal, write) for order in orders]
    os.close(write)
    due = {
        pid: (order.after_s, order.signal) for pid, order in zip(pids, orders, strict=True) if order.signal is not None
    }
    # None is waited for before all signals are sent: a pid that is free may be another process's soon.
    _kill(due, read)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


if __name__ == "__main__":
    _main()
