"""Lightning: what a LightningModule logs in a run, and a training that goes on after its pod is gone.

    with trainyard.run("digits") as run:
        trainer = Trainer(max_epochs=10, logger=False, callbacks=[TrainyardCallback(run, every_n_train_steps=500)])
        trainer.fit(module, data, ckpt_path=last_checkpoint(run))

Works with both packages, `lightning` and `pytorch_lightning`.
"""

import os
import signal
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import Logger
except ModuleNotFoundError:
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.callbacks import ModelCheckpoint
    from pytorch_lightning.loggers import Logger

from trainyard.checkpoint import randomness, ranks
from trainyard.checkpoint.snapshot import Snapshots, original
from trainyard.integrations.folder import checkpoint_folder
from trainyard.integrations.preemption import Preemption
from trainyard.tracking.run import Run
from trainyard.tracking.session import say_to_stderr

_PREFIX: Final = "preempted-step-"


class TrainyardCallback(ModelCheckpoint):
    """Records what `self.log` is told to log; at SIGTERM writes a checkpoint and ends the process with 75.

    It is Lightning's ModelCheckpoint, with all its settings, in the run's own directory. Checkpoints have the state of the
    random numbers, too. They have the position in the data if the data loader has `state_dict`, as torchdata's
    StatefulDataLoader; any other one begins its epoch again. The means of an epoch are those of the steps since the checkpoint.
    """

    def __init__(self, run: Run, **settings: Any) -> None:
        """`settings`: ModelCheckpoint's, such as every_n_train_steps. To be made in the main thread, inside the run."""
        self._folder = checkpoint_folder(run)
        super().__init__(self._folder, **settings)
        self._run = run
        self._preemption = Preemption()
        self._handler = signal.getsignal(signal.SIGTERM)
        self._random: Mapping[str, Any] | None = None
        self._step_ends = self._epoch_ends = False
        self._saved: int | None = None

    def setup(self, trainer: Trainer, module: LightningModule, **stage: str) -> None:
        """Record beside the loggers that the trainer has."""
        super().setup(trainer, module, **stage)
        if not any(isinstance(logger, _RunLogger) for logger in trainer.loggers):
            trainer.loggers = [*trainer.loggers, _RunLogger(self._run)]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Go on with the random numbers of the checkpoint."""
        super().on_train_start(trainer, module)
        # Lightning's handler of SIGTERM ends a training in the middle of a validation, and in the handler itself waits for
        # rank 0, which may be waiting elsewhere.
        signal.signal(signal.SIGTERM, self._handler)
        if self._random is not None:
            randomness.restore(original(self._random))

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if SIGTERM has come."""
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        batches = batch_idx + 1
        self._epoch_ends = batches == trainer.num_training_batches
        # Gradients that are still being accumulated are in no checkpoint.
        self._step_ends = self._epoch_ends or batches % trainer.accumulate_grad_batches == 0
        self._save_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The same once more, with what the callbacks learnt from the validation."""
        super().on_validation_end(trainer, module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not self._epoch_ends:
            self._save_if_asked(trainer)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Raise Preempted if a checkpoint was written; what belongs to its step, such as a validation, has been done."""
        super().on_train_batch_start(trainer, module, batch, batch_idx)
        if self._saved is not None:
            self._preemption.leave(self._saved, self._folder)

    def state_dict(self) -> dict[str, Any]:
        """ModelCheckpoint's, and the state of the random numbers of every rank."""
        return {**super().state_dict(), "random": ranks.gather_states(Snapshots().take(randomness.state()))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """To be used when training starts."""
        super().load_state_dict(state_dict)
        states, rank = state_dict["random"], ranks.own_rank()
        self._random = states[rank] if rank < len(states) else None

    def _save_if_asked(self, trainer: Trainer) -> None:
        if not self._step_ends or not self._preemption.requested():
            return
        self._run.sync()  # a checkpoint must not be ahead of the record
        path = self._folder / f"{_PREFIX}{trainer.global_step}.ckpt"
        trainer.save_checkpoint(path.with_suffix(".part"))
        if trainer.is_global_zero:
            _publish(path)
        # Of the end of an epoch Lightning can take up all but what comes after its last batch. So that checkpoint is for the
        # case that time runs out, and the next step's is the one to leave with.
        if not self._epoch_ends or trainer.num_training_batches <= trainer.accumulate_grad_batches:
            self._saved = trainer.global_step


def last_checkpoint(run: Run) -> Path | None:
    """The newest whole `.ckpt` in the run's checkpoint folder, for `Trainer.fit(ckpt_path=...)`; None to begin at the beginning."""
    paths = sorted(checkpoint_folder(run).glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in paths:
        if path.is_dir() or zipfile.is_zipfile(path):
            return path
        say_to_stderr(f"{path} is not taken: it is cut")
    return None


class _RunLogger(Logger):
    """The run, as Lightning talks to loggers."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._epoch_of: int | None = None

    @property
    def name(self) -> str:
        return self._run.name

    @property
    def version(self) -> str:
        return self._run.uid

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = step or 0
        if step == self._epoch_of:  # Lightning adds the epoch to a validation, too, and a step has one already
            metrics = {key: value for key, value in metrics.items() if key != "epoch"}
        self._epoch_of = step
        self._run.log_metrics(metrics, step=step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_arguments: Any, **_named: Any) -> None:
        self._run.log_params(vars(params) if isinstance(params, Namespace) else params)


def _publish(path: Path) -> None:
    """Give the checkpoint its name once it is on the disk itself, and remove those that it follows."""
    part = path.with_suffix(".part")
    for place in (*(part.rglob("*") if part.is_dir() else ()), part):
        _sync(place)
    part.replace(path)
    _sync(path.parent)
    for old in path.parent.glob(f"{_PREFIX}*.ckpt"):
        if old != path:
            old.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
