"""Trainings of the tasks with labelled examples, recorded in memory: in this process, stopped and continued, or in several."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import torch
from trainyard import distributed
from trainyard.checkpoint import Checkpointer, Preempted
from trainyard.config import configure
from trainyard.distributed import World
from trainyard.environment import JobEnvironment
from trainyard.interruption import Interruption
from trainyard.tasks import find_task
from trainyard.tasks.base import Context, Outcome
from trainyard.tracking.run import NoRun

Recorded = dict[tuple[str, int], float]
BY_HAND = ("checkpoint.every_minutes=0",)
"""No checkpoint but at SIGTERM."""
_EACH_STEP = "train/lr"


class MemoryRun(NoRun):
    """Keeps what is recorded; a step that is done again, after a resume, must give the same."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.metrics: Recorded = {}
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, object] = {}
        self.model: Any = None
        self.model_settings: dict[str, Any] = {}
        self.step = 0

    def log_metrics(self, metrics: Mapping[str, SupportsFloat | SupportsIndex], *, step: int) -> None:
        if _EACH_STEP in metrics:
            assert self.step in (0, step - 1), "a step is missing, or done twice"
            self.step = step
        for key, value in metrics.items():
            assert (key, step) not in self.metrics, "recorded twice"
            self.metrics[key, step] = float(value)

    def log_bytes(self, name: str, content: bytes) -> None:
        self.files[name] = content

    def set_tags(self, tags: Mapping[str, object]) -> None:
        self.tags |= tags

    def log_model(self, model: Any, **settings: Any) -> None:
        self.model = model
        self.model_settings = settings

    def values(self, key: str) -> list[float]:
        """Of a metric, by step."""
        return [value for (name, _), value in sorted(self.metrics.items(), key=lambda item: item[0][1]) if name == key]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Of the registered model."""
        state: dict[str, torch.Tensor] = self.model.state_dict()
        return state


class StopDuring(Interruption):
    """SIGTERM arrives while a step is under way, and is found after it."""

    def __init__(self, run: MemoryRun, step: int) -> None:
        super().__init__()
        self._run = run
        self._step = step

    @property
    def received(self) -> signal.Signals | None:
        return signal.SIGTERM if self._run.step >= self._step else None

    @property
    def requested(self) -> bool:
        return self.received is not None


def train(
    task: str,
    *overrides: str,
    folder: Path,
    run: MemoryRun | None = None,
    stop_during: int | None = None,
    world: World | None = None,
    said: list[str] | None = None,
) -> tuple[MemoryRun, Outcome | None]:
    """The run, and the outcome if it came to its end. Checkpoints are in `folder`."""
    found = find_task(task)
    world = world or World(device=torch.device("cpu"))
    run = run or MemoryRun()
    say: list[str] = [] if said is None else said
    trainer = found.load()(configure(found.config_type, (*BY_HAND, *overrides)), world)
    checkpointer = partial(
        Checkpointer,
        run,
        config=trainer.config.checkpoint,  # type: ignore[attr-defined]
        uri=str(folder),
        interruption=Interruption() if stop_during is None else StopDuring(run, stop_during),
        say=say.append,
    )
    try:
        return run, trainer.train(Context(run=run, world=world, say=say.append, checkpointer=checkpointer))
    except Preempted:
        return run, None


def finished(task: str, *overrides: str, folder: Path, **settings: Any) -> MemoryRun:
    """A training that comes to its end."""
    run, outcome = train(task, *overrides, folder=folder, **settings)
    assert outcome is not None
    return run


def train_together(ranks: int, task: str, *overrides: str, folder: Path) -> list[dict[str, Any]]:
    """What each of several real processes recorded: steps, metrics, tags, parameter hash; by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), task, *overrides],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


def _as_one_of_several(folder: Path, task: str, *overrides: str) -> None:
    world = distributed.join(JobEnvironment.read(os.environ), device="cpu")
    stop_during = int(os.environ["STOP_DURING"]) if "STOP_DURING" in os.environ and world.rank == 1 else None
    run, outcome = train(task, *overrides, folder=folder / "checkpoints", world=world, stop_during=stop_during)
    content = {
        "finished": outcome is not None,
        "metrics": [[key, step, value] for (key, step), value in run.metrics.items()],
        "tags": run.tags,
        "hash": distributed.parameter_hash(run.model) if run.model is not None else None,
    }
    (folder / f"{world.rank}.json").write_text(json.dumps(content))
    distributed.leave()


def write_texts(path: Path, count: int = 240) -> str:
    """Short texts of three classes that a word or two give away; returns where they are, for `data.uri`."""
    random = np.random.default_rng(0)
    words = {
        "rail": ["train", "track", "signal"],
        "sea": ["ship", "harbour", "tide"],
        "air": ["plane", "wing", "cloud"],
    }
    common = ["the", "a", "new", "old", "is", "was", "late", "here"]
    lines = []
    for index in range(count):
        label = list(words)[index % 3]
        text = [*random.choice(common, 4), random.choice(words[label]), *random.choice(common, 2)]
        lines.append(f"{' '.join(text)},{label}")
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return str(path)


if __name__ == "__main__":
    _as_one_of_several(Path(sys.argv[1]), *sys.argv[2:])
