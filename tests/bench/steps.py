"""What tracking costs a training: the digits task's own step, with its two values logged at every step, and without."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from statistics import median

import torch
import trainyard
from trainyard.distributed import World
from trainyard.tasks.classification.examples import Examples
from trainyard.tasks.classification.fit import Recipe, _step
from trainyard.tasks.classification.score import MetricNames, Score
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.tasks.digits.data import load
from trainyard.tasks.digits.model import cnn
from trainyard.tracking.run import Run

from tests.bench.measure import figure, median_and_error
from tests.bench.table import Row, show, verdict

_LEAST_PAIRS = 5
_RESOLVED_PERCENT = 0.5
_NAMES = MetricNames(step="_step", epoch="")
Log = Callable[[Score, int], None]


class Training:
    """The loop of the digits task that never ends; a step is the task's."""

    def __init__(self) -> None:
        config = DigitsConfig(device="cpu")
        self._world = World(device=torch.device("cpu"))
        torch.manual_seed(config.seed)
        digits = load(config.data)
        train = Examples(digits.train, self._world.device)
        model = cnn(config.model, classes=10)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self._recipe = Recipe(
            model=model,
            optimizer=optimizer,
            schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10**6),
            train=train,
            validation=train,
            batches=train.batches(config.batch_size, config.seed, self._world),
            epochs=10**9,
            names=_NAMES,
        )
        self._positions = self._endless(config.batch_size)
        self._steps = count(1)

    def _endless(self, size: int) -> Iterator[torch.Tensor]:
        for _ in self._recipe.batches.epochs(self._recipe.epochs):
            # The last batch of an epoch is smaller: steps that are compared must be alike.
            yield from (positions for positions in self._recipe.batches if len(positions) == size)

    def block(self, steps: int, log: Log | None) -> "Block":
        """Train for some steps."""
        clock = time.perf_counter_ns
        block = Block()
        began, cpu_before = clock(), time.process_time_ns()
        for _ in range(steps):
            positions = next(self._positions)
            score = _step(self._recipe, self._recipe.model, positions, len(positions), self._world)
            trained = clock()
            if log is not None:
                log(score, next(self._steps))
            ended = clock()
            block.calls.append(ended - trained)
        block.total = clock() - began
        block.cpu = time.process_time_ns() - cpu_before
        return block


@dataclass(slots=True)
class Block:
    """Consecutive steps, in nanoseconds."""

    calls: list[int] = field(default_factory=list)
    """Of each step, what logging took."""
    total: int = 0
    cpu: int = 0
    """CPU time of the process, with all of its threads."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to track, and how finely blocks with it and without it take turns."""

    tracked: Callable[[], AbstractContextManager[Log]]
    """Entered for each block with tracking."""
    steps: int
    """In a block."""
    seconds: float
    """How long to go on; on a busy machine too, the bench ends in time."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a way costs."""

    steps_per_s: float
    untracked_per_s: float
    percent: float
    """By which a block takes longer than its untracked neighbour; the median of all pairs."""
    error: float
    """Standard error of `percent`."""
    cpu_percent: float
    """The same in CPU time of the process: what other processes do is not in it, and neither is waiting."""
    cpu_error: float
    call_us: float
    call_percent: float
    """The time inside the log calls, of the whole."""


def cost(training: Training, way: Way) -> Cost:
    """Blocks with and without tracking in turns; which one comes first changes from pair to pair."""
    tracked: list[Block] = []
    untracked: list[Block] = []
    until = time.monotonic() + way.seconds
    while len(tracked) < _LEAST_PAIRS or time.monotonic() < until:
        for with_tracking in (True, False) if len(tracked) % 2 else (False, True):
            if with_tracking:
                with way.tracked() as log:
                    training.block(way.steps // 10, log)  # connections and new metrics are no part of a step
                    tracked.append(training.block(way.steps, log))
            else:
                training.block(way.steps // 10, None)
                untracked.append(training.block(way.steps, None))
    pairs = list(zip(tracked, untracked, strict=True))
    percent, error = median_and_error([100 * (each.total / other.total - 1) for each, other in pairs])
    cpu_percent, cpu_error = median_and_error([100 * (each.cpu / other.cpu - 1) for each, other in pairs])
    total = sum(each.total for each in tracked)
    return Cost(
        steps_per_s=way.steps * 1e9 / median(each.total for each in tracked),
        untracked_per_s=way.steps * 1e9 / median(each.total for each in untracked),
        percent=percent,
        error=error,
        cpu_percent=cpu_percent,
        cpu_error=cpu_error,
        call_us=median(call for each in tracked for call in each.calls) / 1000,
        call_percent=100 * sum(sum(each.calls) for each in tracked) / total,
    )


@contextmanager
def _sidecar() -> Iterator[Log]:
    """A run whose record another process delivers meanwhile, as in a pod."""
    command = [sys.executable, "-m", "trainyard", "spool", "ship", "--follow"]
    shipper = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with _environment(TRAINYARD_SHIPPER="sidecar"), trainyard.run("bench-steps") as run:
            yield _log_to(run)
    finally:
        shipper.terminate()
        shipper.wait(timeout=30)


@contextmanager
def _thread() -> Iterator[Log]:
    """A run that a thread of this process delivers; complete at the end of the block."""
    with _environment(TRAINYARD_SHIPPER="thread", TRAINYARD_STATE_DIR="/var/tmp/thread"):
        with trainyard.run("bench-steps") as run:
            yield _log_to(run)


def _log_to(run: Run) -> Log:
    def log(score: Score, step: int) -> None:
        run.log_metrics(_NAMES.of_step(score), step=step)

    return log


@contextmanager
def _mlflow(synchronous: bool) -> Iterator[Log]:
    import mlflow

    def log(score: Score, step: int) -> None:
        mlflow.log_metrics(_NAMES.of_step(score), step=step, synchronous=synchronous)

    mlflow.set_experiment("bench-steps")
    with mlflow.start_run():
        yield log
        if not synchronous:
            mlflow.flush_async_logging()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _row(name: str, cost: Cost, goal: str = "") -> Row:
    return Row(
        name,
        f"{cost.steps_per_s:,.0f} steps/s",
        f"untracked: {cost.untracked_per_s:,.0f} steps/s",
        f"time {cost.percent:+.2f} +- {cost.error:.2f} %, CPU {cost.cpu_percent:+.2f} +- {cost.cpu_error:.2f} %, "
        f"in calls {cost.call_percent:.2f} % ({figure(cost.call_us)} us)",
        goal,
    )


def _goal(cost: Cost) -> str:
    """Judged by what this run can tell: the whole time if the machine is quiet enough, and always the calls."""
    if cost.error > _RESOLVED_PERCENT:
        return verdict("< 1 % in calls", cost.call_percent < 1) + "; in time: too much else runs here"
    return verdict("< 1 %", cost.call_percent < 1 and cost.percent < 1)


def main() -> None:
    """Measure and print."""
    training = Training()
    training.block(200, None)
    with _sidecar() as log:
        sidecar = cost(training, Way(lambda: nullcontext(log), steps=25, seconds=20))
    thread = cost(training, Way(_thread, steps=400, seconds=25))
    # MLflow's client is imported from here on: ours is measured without its threads.
    sync = cost(training, Way(lambda: _mlflow(synchronous=True), steps=25, seconds=6))
    queued = cost(training, Way(lambda: _mlflow(synchronous=False), steps=50, seconds=6))
    rows = [
        _row("ours, sidecar", sidecar, _goal(sidecar)),
        _row("ours, thread", thread, _goal(thread)),
        _row("mlflow sync", sync),
        _row("mlflow async", queued),
    ]
    step_us = 1e6 / sidecar.untracked_per_s
    show(
        f"A training that logs two values at every step (digits, batch of 32, one thread, {step_us:,.0f} us a step)",
        rows,
        "Blocks of steps with tracking and without take turns. Ratio: by how much the median pair differs, in time and in CPU time of the",
        "process with its threads; and what the log calls themselves take, of the whole.",
    )


if __name__ == "__main__":
    main()
