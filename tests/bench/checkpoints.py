"""How long a training stands still for a checkpoint: ours, and torch.save of the same state to the same volume."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn
from trainyard.checkpoint import CheckpointConfig, Checkpointer
from trainyard.tracking.run import NoRun

from tests.bench.measure import figure
from tests.bench.table import Row, show, times_better

_FOLDER = Path("/var/tmp/checkpoints")
_ROUNDS = 7
_WIDTH = 2048
_LAYERS = 6
"""25 million parameters: 100 MB, and twice that for AdamW."""


class Training:
    """A model with an optimizer that has its state."""

    def __init__(self) -> None:
        self.model = nn.Sequential(*(nn.Linear(_WIDTH, _WIDTH) for _ in range(_LAYERS)))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.step()

    def step(self) -> None:
        """One step, so that each checkpoint is of another state."""
        self.optimizer.zero_grad()
        self.model(torch.ones(1, _WIDTH)).sum().backward()
        self.optimizer.step()

    def state(self) -> dict[str, object]:
        """What is saved."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}


def _ours(training: Training) -> tuple[list[float], list[float]]:
    """Milliseconds that each `after_step` took, and until its checkpoint was complete."""
    config = CheckpointConfig(every_steps=1, every_minutes=0, keep_last=1, keep_best=0)
    uri = _FOLDER / "ours"
    blocked, complete = [], []
    with Checkpointer(
        NoRun("bench"), config=config, uri=str(uri), model=training.model, optimizer=training.optimizer
    ) as checkpoint:
        for step in range(1, _ROUNDS + 2):
            training.step()
            began = time.perf_counter()
            checkpoint.after_step(step)
            blocked.append(1000 * (time.perf_counter() - began))
            while not (uri / f"step-{step:09d}" / "manifest.json").exists():
                time.sleep(0.005)
            complete.append(1000 * (time.perf_counter() - began))
    return blocked, complete


def _peer(training: Training, save: Callable[[dict[str, object], Path], None]) -> list[float]:
    """Milliseconds of each save."""
    taken = []
    for step in range(_ROUNDS):
        training.step()
        began = time.perf_counter()
        save(training.state(), _FOLDER / f"peer-{step % 2}.pt")
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def _torch_save(state: dict[str, object], path: Path) -> None:
    torch.save(state, path)


def _torch_save_durably(state: dict[str, object], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def _idle(training: Training) -> float:
    """Microseconds of `after_step` when nothing is due."""
    config = CheckpointConfig(every_steps=10**9, every_minutes=60)
    with Checkpointer(NoRun("bench"), config=config, uri=str(_FOLDER / "idle"), model=training.model) as checkpoint:
        count = 100_000
        began = time.perf_counter_ns()
        for step in range(1, count + 1):
            checkpoint.after_step(step)
        return (time.perf_counter_ns() - began) / count / 1000


def main() -> None:
    """Measure and print."""
    training = Training()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    blocked, complete = _ours(training)
    plain = median(_peer(training, _torch_save))
    durable = median(_peer(training, _torch_save_durably))
    idle = _idle(training)
    shutil.rmtree(_FOLDER)
    (first, *others) = blocked
    ours = median(others)
    size = sum(weight.numel() for weight in training.model.parameters()) * 12 / 2**20
    show(
        f"What a checkpoint of {size:,.0f} MiB (model and AdamW) costs the training",
        [
            Row("stands still for", f"{figure(ours)} ms", f"torch.save: {figure(plain)} ms", times_better(ours, plain)),
            Row("", f"{figure(ours)} ms", f"with fsync: {figure(durable)} ms", times_better(ours, durable)),
            Row("the first one", f"{figure(first)} ms", f"torch.save: {figure(plain)} ms", times_better(first, plain)),
            Row("after_step, nothing due", f"{figure(idle)} us", "", "", "<= 2 us"),
        ],
        f"Ours is complete, checked and on the disk {figure(median(complete))} ms after the step, in the background.",
        "The first one allocates the memory that the others are copied into.",
    )


if __name__ == "__main__":
    main()
