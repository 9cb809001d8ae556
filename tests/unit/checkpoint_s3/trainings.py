"""What runs inside the trainer image: `python -m tests.unit.checkpoint_s3.trainings WORK JSON`; answers in lines of JSON."""

import hashlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable
from typing import Any

import torch
import trainyard
from torch import nn
from trainyard.checkpoint import CheckpointConfig, Checkpointer, saved_record
from trainyard.errors import TrainyardError
from trainyard.tracking.run import NoRun


def answer(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")  # at once: the writer's thread speaks too
    sys.stdout.flush()


def say(line: str) -> None:
    answer(said=line)


def network(megabytes: int) -> nn.Module:
    """One whose parameters have that size."""
    return nn.Linear(1024, 256 * megabytes, bias=False)


def fill(model: nn.Module, step: int) -> None:
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) % 1009 + step + number)


def save(uri: str, *, steps: list[int], megabytes: int = 1) -> None:
    model = network(megabytes)
    with Checkpointer(
        NoRun("stub"), uri=uri, config=CheckpointConfig(every_minutes=0.0), say=say, model=model
    ) as checkpoint:
        answer(restored=checkpoint.restore())
        for step in steps:
            fill(model, step)
            checkpoint.save(step)
            answer(saved=step)


def restore(uri: str, *, megabytes: int = 1) -> None:
    model, expected = network(megabytes), network(megabytes)
    with Checkpointer(NoRun("stub"), uri=uri, say=say, model=model) as checkpoint:
        step = checkpoint.restore()
    fill(expected, step)
    answer(restored=step, right=torch.equal(model.weight, expected.weight))


def train(uri: str, *, every_steps: int = 5, last: int = 10**9, pause_s: float = 0.02) -> None:
    """A script of a user, recorded."""
    model = network(1)
    config = CheckpointConfig(every_steps=every_steps, every_minutes=0.0)
    with trainyard.run("s3", tracking="json") as run:
        run.log_params({"kept": "in the record"})
        with Checkpointer(run, uri=uri, config=config, say=say, model=model) as checkpoint:
            step = checkpoint.restore()
            answer(restored=step)
            while step < last:
                step += 1
                fill(model, step)
                run.log_metrics({"loss": step}, step=step)
                answer(step=step)
                checkpoint.after_step(step)
                time.sleep(pause_s)


def record(uri: str) -> None:
    content = saved_record(uri, say)
    if content is None:
        answer(record=None)
        return
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        answer(record=sorted(tar.getnames()), sha256=hashlib.sha256(content).hexdigest())


WORKS: dict[str, Callable[..., None]] = {"save": save, "restore": restore, "train": train, "record": record}


def main(work: str, arguments: dict[str, Any]) -> int:
    try:
        WORKS[work](**arguments)
    except TrainyardError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
