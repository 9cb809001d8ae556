"""Checkpoints: a training that is interrupted goes on where it was, with the same numbers as if nothing had happened.

In a loop of your own:

    with trainyard.run("my-experiment") as run:
        progress = {"sum": 0.0}
        with Checkpointer(run, model=model, optimizer=optimizer, batches=batches, progress=progress) as checkpoint:
            step = checkpoint.restore()                     # 0: there is none, begin at the beginning
            for epoch in batches.epochs(10):
                for positions in batches:
                    step += 1
                    loss = train_on(positions)              # your own
                    run.log_metrics({"train/loss": loss}, step=step)
                    checkpoint.after_step(step)             # saves when due; on SIGTERM saves and leaves with exit code 75

What is on the disk or in S3, and what that promises: README.md in this folder.
"""

from typing import TYPE_CHECKING, Any

from trainyard.checkpoint.config import CheckpointConfig
from trainyard.checkpoint.errors import CheckpointError, Preempted
from trainyard.checkpoint.record import saved_record

if TYPE_CHECKING:
    from trainyard.checkpoint.checkpointer import Checkpointer

__all__ = ["CheckpointConfig", "CheckpointError", "Checkpointer", "Preempted", "saved_record"]


def __getattr__(name: str) -> Any:
    # Later, since it imports torch: reading a configuration must not take seconds.
    if name == "Checkpointer":
        from trainyard.checkpoint.checkpointer import Checkpointer

        return Checkpointer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
