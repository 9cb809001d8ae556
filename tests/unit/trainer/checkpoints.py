"""Trainings that the checkpoint tests interrupt, in this process and, by `python -m`, in others."""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from trainyard import distributed
from trainyard.batches import Batches
from trainyard.checkpoint import CheckpointConfig, Checkpointer
from trainyard.environment import JobEnvironment
from trainyard.errors import TrainyardError
from trainyard.interruption import Interruption, of_this_process
from trainyard.tracking.run import NoRun

BY_HAND = CheckpointConfig(every_steps=0, every_minutes=0.0, keep_last=100)


class StubRun(NoRun):
    """A run that keeps its metrics, and whose `sync` a test can watch."""

    def __init__(self, uid: str = "a" * 32, *, sync: Callable[[], None] = lambda: None) -> None:
        super().__init__("stub")
        self.uid = uid
        self.points: dict[tuple[int, str], float] = {}
        self.sync = sync  # type: ignore[method-assign]

    def log_metrics(self, metrics: Any, *, step: int) -> None:
        for key, value in metrics.items():
            # A step that is done again must give the same.
            assert self.points.setdefault((step, key), value) == value, (step, key)


class Lines(list[str]):
    """What was said."""

    def about(self, text: str) -> list[str]:
        return [line for line in self if text in line]


def checkpointer(uri: Path | str, say: Callable[[str], None] = print, **arguments: Any) -> Checkpointer:
    """One that saves when it is told to, unless the arguments say otherwise."""
    known: dict[str, Any] = {"config": BY_HAND, "interruption": Interruption(), "run": StubRun()}
    return Checkpointer(**{**known, "uri": str(uri), "say": say, **arguments})


def saved(uri: Path) -> list[str]:
    """Names of the checkpoints, the oldest first."""
    return sorted(path.name for path in uri.iterdir() if not path.name.startswith("."))


class CrashError(Exception):
    """The end of a training that did not expect it."""


def train(
    run: StubRun, uri: Path, *, epochs: int = 3, crash_after: int | None = None, config: CheckpointConfig = BY_HAND
) -> dict[str, Any]:
    """Train a network that uses every source of randomness; returns its final weights. Saved before a crash unless `config` saves by itself."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    noise, order = np.random.default_rng(1), torch.Generator().manual_seed(2)
    inputs = torch.randn(50, 6, generator=torch.Generator().manual_seed(3))
    targets = inputs.sum(dim=1, keepdim=True)
    batches = Batches(50, 8, seed=4)
    progress = {"sum": 0.0}
    objects = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler, "batches": batches}
    with checkpointer(
        uri, Lines().append, run=run, config=config, **objects, noise=noise, order=order, progress=progress
    ) as checkpoint:
        step = checkpoint.restore()
        for epoch in batches.epochs(epochs):
            for positions in batches:
                step += 1
                shift = noise.normal() + random.random() + np.random.rand() + torch.rand(1, generator=order).item()
                loss = ((model(inputs[positions]) - targets[positions] - 0.01 * shift) ** 2).mean()
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                progress["sum"] += loss.item()
                run.log_metrics({"loss": loss.item(), "lr": schedule.get_last_lr()[0]}, step=step)
                checkpoint.after_step(step)
                if step == crash_after:
                    if config is BY_HAND:
                        checkpoint.save(step)
                    raise CrashError
            run.log_metrics({"epoch/loss": progress["sum"]}, step=epoch)
            progress["sum"] = 0.0
    return {name: value.clone() for name, value in model.state_dict().items()}


def save_for_ever(uri: Path, journal: Path) -> None:
    """Save step after step, each with a state that names the step everywhere, and note which are durable. Ends by a signal."""
    weights = nn.Linear(512, 512)
    progress = {"step": 0}
    with checkpointer(
        uri, config=CheckpointConfig(every_minutes=0.0, keep_last=2), weights=weights, progress=progress
    ) as checkpoint:
        step = restored_whole(checkpoint, weights, progress)
        while True:
            step += 1
            set_everywhere(weights, step)
            progress["step"] = step
            checkpoint.save(step)
            journal.write_text(str(step))


def set_everywhere(weights: nn.Module, step: int) -> None:
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.fill_(step)


def restored_whole(checkpoint: Checkpointer, weights: nn.Module, progress: dict[str, int]) -> int:
    """The step that was restored; fails unless everything is of this step."""
    step = checkpoint.restore()
    if step:
        assert progress == {"step": step}
        assert all(bool((parameter == step).all()) for parameter in weights.parameters())
    return step


def _rank(uri: str, options: dict[str, Any]) -> None:
    """One of several processes: prints a line of JSON for each step, with random numbers of its own."""
    environment = JobEnvironment.read(os.environ)
    distributed.join(environment, device="cpu")
    rank = environment.rank
    own = np.random.default_rng(rank)
    common = torch.Generator().manual_seed(7)
    random.seed(rank)
    np.random.seed(rank)
    torch.manual_seed(rank)
    model = nn.Linear(2, 2)
    progress = {"rank": rank, "steps": 0}
    slow = options.get("slow_sync", False)
    run = StubRun(sync=_wait_for_ever if slow else lambda: None)
    with Checkpointer(
        run,
        uri=uri,
        config=CheckpointConfig(
            every_steps=options.get("every_steps", 0), every_minutes=options.get("every_minutes", 0.0)
        ),
        config_hash=options.get("config_hash"),
        model=model,
        own=own,
        common=common,
        progress=progress,
        say=lambda line: _print(said=line),
    ) as checkpoint:
        step = checkpoint.restore()
        _print(restored=step, progress=progress)
        while step < options.get("steps", 10**9):
            step += 1
            progress["steps"] += 1
            drawn = [
                random.random(),
                float(np.random.rand()),
                torch.rand(1).item(),
                own.random(),
                torch.rand(1, generator=common).item(),
            ]
            _print(step=step, drawn=drawn)
            if step == options.get("interrupt_self"):
                os.kill(os.getpid(), options["signal"])
            checkpoint.after_step(step)
            time.sleep(options.get("pause_s", 0))


def _wait_for_ever() -> None:
    _print(said="in sync")
    time.sleep(3600)


def _print(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")  # at once: the writer's thread speaks too
    sys.stdout.flush()


if __name__ == "__main__":
    of_this_process()
    try:
        _rank(sys.argv[1], json.loads(sys.argv[2]))
    except TrainyardError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        distributed.leave()
