"""Steps of the lm task per second, recorded and with checkpoints, beside the same model in a plain loop without Trainyard."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch
import trainyard
from torch import nn
from torch.nn.functional import cross_entropy
from trainyard.checkpoint import CheckpointConfig, Checkpointer
from trainyard.config import configure
from trainyard.distributed import World
from trainyard.tasks.base import Context
from trainyard.tasks.lm.config import LmConfig
from trainyard.tasks.lm.loop import Loop
from trainyard.tasks.lm.model import GPT
from trainyard.tasks.lm.speed import flops_per_token, peak_flops
from trainyard.tasks.lm.text import language_reference, load

from tests.bench.table import Row, show, verdict

_STEPS = 45
_ROUNDS = 8
_ON_GPU = torch.cuda.is_available()
_SETTINGS = (
    ["model.layers=12", "model.heads=12", "model.width=768", "model.context=1024", "batch_size=32", "compile=false"]
    if _ON_GPU
    else ["model.layers=4", "model.width=128", "model.context=64", "batch_size=8"]
)


def _config() -> LmConfig:
    # No validation but at the end, and a checkpoint every 20 steps, far more often than anybody needs one.
    settings = [*_SETTINGS, f"steps={_STEPS}", f"evaluate_every={_STEPS + 1}", "optimizer.warmup_steps=5"]
    return configure(LmConfig, [*settings, "data.validation_fraction=0.01", "checkpoint.every_steps=20"])


class Clock:
    """Notes when each step ends, in a run."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def seconds(self) -> list[float]:
        """Of each step, the first ones apart: they warm up."""
        return [after - before for before, after in pairwise(self.ends[5:])]


class Timed:
    """A Checkpointer that notes when each step ends."""

    def __init__(self, checkpointer: Checkpointer, clock: Clock) -> None:
        self._checkpointer = checkpointer
        self._clock = clock

    def __enter__(self) -> "Timed":
        self._checkpointer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._checkpointer.__exit__(*error)

    def restore(self) -> int:
        return self._checkpointer.restore()

    def after_step(self, step: int, *, score: float | None = None) -> None:
        self._checkpointer.after_step(step, score=score)
        self._clock.ends.append(time.perf_counter())


def _ours(config: LmConfig, device: torch.device) -> list[float]:
    text = load(config.data, language_reference)
    world = World(device=device)
    loop = Loop(config, text, world, context=config.model.context)
    torch.manual_seed(config.seed)
    model = GPT(config.model).to(device)
    clock = Clock()
    with trainyard.run("bench-lm") as run:

        def checkpointer(**objects: Any) -> Any:
            made = Checkpointer(run, config=CheckpointConfig(every_steps=20, keep_best=0), **objects)
            return Timed(made, clock)

        context = Context(run=run, world=world, say=lambda _: None, checkpointer=checkpointer)
        loop.fit(model, context)
    return clock.seconds()


def _plain(config: LmConfig, device: torch.device) -> list[float]:
    """What a person would write without Trainyard: the same arithmetic, the loss read at each step, nothing recorded."""
    text = load(config.data, language_reference).train.to(device).long()
    torch.manual_seed(config.seed)
    model = GPT(config.model).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optimizer.lr, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    context, clock = config.model.context, Clock()
    count = (len(text) - 1) // context
    autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
    order = torch.randperm(count)
    for step in range(config.steps):
        starts = (order[step * config.batch_size : (step + 1) * config.batch_size] * context).tolist()
        tokens = torch.stack([text[start : start + context] for start in starts])
        targets = torch.stack([text[start + 1 : start + context + 1] for start in starts])
        model.train()
        optimizer.zero_grad()
        with autocast():
            logits = model(tokens)
        loss = cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        loss.item()
        clock.ends.append(time.perf_counter())
    return clock.seconds()


@contextmanager
def _sidecar() -> Iterator[None]:
    command = [sys.executable, "-m", "trainyard", "spool", "ship", "--follow"]
    shipper = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        shipper.terminate()
        shipper.wait(timeout=60)


def main() -> None:
    """Measure and print."""
    config = _config()
    device = torch.device("cuda" if _ON_GPU else "cpu")
    ours: list[float] = []
    plain: list[float] = []
    with _sidecar():
        for number in range(_ROUNDS):
            for each, taken in ((_ours, ours), (_plain, plain))[:: 1 if number % 2 else -1]:
                taken += each(config, device)
    ratio = median(plain) / median(ours)
    tokens = config.batch_size * config.model.context
    rows = [
        Row(
            "steps per second",
            f"{1 / median(ours):,.1f}",
            f"plain loop: {1 / median(plain):,.1f}",
            f"{ratio:.3f}x",
            verdict(">= 0.99", ratio >= 0.99),
        ),
        Row("tokens per second", f"{tokens / median(ours):,.0f}", f"plain loop: {tokens / median(plain):,.0f}", ""),
    ]
    if _ON_GPU:
        model = GPT(config.model)
        multiplied = sum(weight.numel() for weight in model.parameters()) - model.positions.weight.numel()
        peak = peak_flops(torch.cuda.get_device_name())
        flops = flops_per_token(multiplied, config.model) * tokens
        if peak:
            rows.append(Row("MFU", f"{flops / median(ours) / peak:.1%}", f"{flops / median(plain) / peak:.1%}", ""))
    name = torch.cuda.get_device_name() if _ON_GPU else "one CPU thread"
    show(
        f"Training a small GPT on {name}: three metrics at every step, a checkpoint every 20 steps",
        rows,
        f"Median of all steps of {_ROUNDS} rounds in turns. The plain loop records and saves nothing.",
    )


if __name__ == "__main__":
    main()
