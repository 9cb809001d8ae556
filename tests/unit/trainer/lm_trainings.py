"""Trainings of language models that last a second, recorded in memory."""

import shutil
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

import pytest
import torch
from trainyard.checkpoint import Checkpointer, Preempted
from trainyard.config import config_hash, configure
from trainyard.distributed import World
from trainyard.interruption import Interruption
from trainyard.tasks import find_task
from trainyard.tasks.base import Context, Outcome, Trainer
from trainyard.tracking.run import NoRun

SMALL = (
    "steps=24",
    "batch_size=8",
    "evaluate_every=8",
    "optimizer.lr=0.01",
    "optimizer.warmup_steps=4",
    "device=cpu",
    "checkpoint.every_minutes=0",
)
SMALL_MODEL = ("model.layers=2", "model.heads=2", "model.width=32", "model.context=16")
STEPS = 24
TIMED = ("tokens_per_second", "mfu")
CPU = World(device=torch.device("cpu"))


class MemoryRun(NoRun):
    """Keeps what it is told in memory, and models in a folder."""

    def __init__(self, folder: Path, at_step: Callable[[int], None] = lambda _: None) -> None:
        super().__init__("memory")
        self.folder = folder
        self.points: dict[tuple[int, str], float] = {}
        self.params: dict[str, Any] = {}
        self.tags: dict[str, Any] = {}
        self.files: dict[str, Any] = {}
        self.registered: list[tuple[str | None, str | None]] = []
        self.at_step = at_step

    def log_params(self, params: Any) -> None:
        self.params.update(params)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        self.tags.update(tags)

    def log_dict(self, content: Any, name: str) -> None:
        self.files[name] = content

    def log_metrics(self, metrics: Mapping[str, SupportsFloat | SupportsIndex], *, step: int) -> None:
        for key, value in metrics.items():
            if key not in TIMED:
                # A step that is done again must give the same.
                assert self.points.setdefault((step, key), float(value)) == value, (step, key)
        self.at_step(step)

    def log_artifacts(self, folder: Any, name: str | None = None) -> None:
        shutil.copytree(folder, self.folder / str(name))

    def log_model(self, model: Any, *, register: str | None = None, alias: str | None = None, **_: Any) -> None:
        shutil.copytree(model, self.folder / "model")
        self.registered.append((register, alias))

    def values(self, key: str) -> list[float]:
        """In the order of steps."""
        return [value for (_, name), value in sorted(self.points.items()) if name == key]


class Requested(Interruption):
    """SIGTERM arrives when somebody says so."""

    arrived = False

    @property
    def requested(self) -> bool:
        return self.arrived

    @property
    def received(self) -> signal.Signals | None:
        return signal.SIGTERM if self.arrived else None


def trainer(task_name: str, *overrides: str, world: World = CPU) -> Trainer:
    """A small one; the overrides win."""
    task = find_task(task_name)
    small = (*SMALL, *SMALL_MODEL) if task_name == "lm" else SMALL
    make: Any = task.load()
    made: Trainer = make(configure(task.config_type, [*small, *overrides]), world)
    return made


def train(
    task_name: str, folder: Path, *overrides: str, run: MemoryRun | None = None, stop_at: int | None = None
) -> tuple[MemoryRun, Outcome]:
    """Train to the end, or to the end of a step as if SIGTERM had come in it; goes on from the checkpoints in `folder`."""
    return continue_training(trainer(task_name, *overrides), folder, run=run, stop_at=stop_at)


def continue_training(
    made: Trainer, folder: Path, *, run: MemoryRun | None = None, stop_at: int | None = None
) -> tuple[MemoryRun, Outcome]:
    interruption = Requested()

    def at_step(step: int) -> None:
        interruption.arrived = step == stop_at

    run = run or MemoryRun(folder)
    run.at_step = at_step
    checkpointer = partial(
        Checkpointer,
        run,
        config=made.config.checkpoint,  # type: ignore[attr-defined]
        uri=str(folder / "checkpoints"),
        config_hash=config_hash("task", made.config),
        interruption=interruption,
        say=print,
    )
    outcome = made.train(Context(run=run, world=CPU, say=print, checkpointer=checkpointer))
    return run, outcome


def train_without_end(task_name: str, folder: Path, *overrides: str) -> MemoryRun:
    """All steps and nothing after them, which takes longer than they do."""
    made = trainer(task_name, *overrides)
    run = MemoryRun(folder)
    with pytest.raises(Preempted):
        continue_training(made, folder, run=run, stop_at=made.config.steps)  # type: ignore[attr-defined]
    return run
