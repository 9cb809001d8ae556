"""Hugging Face's Trainer: its metrics in a run, and a training that goes on after its pod is gone.

with trainyard.run("sentences") as run:
    args = TrainingArguments(output_dir=str(checkpoint_folder(run)), save_steps=500)
    trainer = Trainer(model, args, train_dataset=data)
    train(trainer, run)
    trainer.save_model("model")
"""

import json
import numbers
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput

from trainyard import distributed
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError
from trainyard.integrations.preemption import Preemption
from trainyard.spool.folder import write_json
from trainyard.tracking.run import Run
from trainyard.tracking.session import say_to_stderr

_MANIFEST: Final = "trainyard.json"
_STATE: Final = "trainer_state.json"
"""What HF itself writes last."""


def train(trainer: Trainer, run: Run) -> TrainOutput:
    """`trainer.train()`, recorded in `run`, from the newest complete checkpoint in its output_dir or from the beginning.

    After SIGTERM, which may come to any rank: writes a checkpoint at the step's end and raises Preempted. An evaluation that is due is
    finished before. HF's averages over logging_steps begin anew with a checkpoint. To be called in the main thread. Raises ConfigError
    for arguments with which a training cannot go on, and Interrupted after SIGINT.
    """
    _refuse(trainer.args)
    # Added now, it is the last one to be called, and what it raises keeps no other one from ending.
    trainer.add_callback(_Callback(run))
    return trainer.train(resume_from_checkpoint=last_checkpoint(trainer.args.output_dir))


def last_checkpoint(output_dir: str | os.PathLike[str]) -> str | None:
    """The newest complete checkpoint that `train` wrote to `output_dir`; None if there is none.

    Newer ones that are not complete are set aside as `incomplete-checkpoint-N`, or removed where HF had not finished them, with a line on stderr.
    """
    for path in _checkpoints(output_dir):
        if _is_complete(path):
            return str(path)
        if JobEnvironment.read(os.environ).rank == 0:
            _set_aside(path)
    return None


def _refuse(args: TrainingArguments) -> None:
    problems = []
    if args.enable_jit_checkpoint:
        problems.append(
            "enable_jit_checkpoint=True: leave it out; trainyard writes the checkpoint at SIGTERM, and HF's own way ends with "
            "exit code 0, which Kubernetes takes for success"
        )
    if args.save_total_limit == 1:
        problems.append(
            "save_total_limit=1: must be 2 or more; with 1, HF deletes the last checkpoint before the new one is known to be whole"
        )
    if args.save_only_model:
        problems.append("save_only_model=True: a training cannot go on from a checkpoint without its optimizer")
    if problems:
        raise ConfigError(*problems)


class _Callback(TrainerCallback):
    """Records, completes each checkpoint with the list of its files, and ends the training at SIGTERM.

    HF writes checkpoints in place: without that list, one that was half written would look like any other.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._preemption = Preemption()
        self._resumed = False
        self._saving = False
        self._leaving: Path | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_others: Any
    ) -> None:
        self._resumed = state.global_step > 0
        self._run.log_params({"args": args.to_sanitized_dict()})

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_others: Any,
    ) -> None:
        if self._leaving is not None:  # a summary of what is not finished
            return
        logs = dict(logs or {})
        if "loss" not in logs:  # evaluations and the summary come with an epoch, too, and a step has one already
            logs.pop("epoch", None)
        if self._resumed:  # the mean over this process's steps alone: comparable with no other run's
            logs.pop("train_loss", None)
        metrics = {_name(key): value for key, value in logs.items() if isinstance(value, numbers.Real)}
        if metrics:
            self._run.log_metrics(metrics, step=state.global_step)

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_others: Any
    ) -> None:
        if state.epoch != int(state.epoch) and not control.should_epoch_stop:
            self._save_if_asked(control)
        # Else the end of the epoch comes next, and its evaluation belongs before the checkpoint.

    def on_epoch_end(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **_others: Any
    ) -> None:
        if self._leaving is not None:  # in the middle of it
            control.should_log = control.should_evaluate = control.should_save = False
        else:
            self._save_if_asked(control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_others: Any) -> None:
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        distributed.any_rank(False)  # every rank has written its part
        if args.should_save:
            self._run.sync()  # a checkpoint must not be ahead of the record
            _complete(folder)
        # Not if the evaluation before it has ended the training, since no checkpoint tells that.
        if self._saving and not control.should_training_stop:
            self._leaving = folder
            control.should_training_stop = True

    def on_train_end(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_others: Any
    ) -> None:
        if self._leaving is not None:
            self._preemption.leave(state.global_step, self._leaving)

    def _save_if_asked(self, control: TrainerControl) -> None:
        # A training that is over has only its results to write; those take no checkpoint.
        if not control.should_training_stop and self._preemption.requested():
            self._saving = control.should_save = True
            # What HF has added up since it logged last is in no checkpoint.
            control.should_log = True


def _name(key: str) -> str:
    for part in ("eval", "test"):
        if key.startswith(f"{part}_"):
            return f"{part}/{key.removeprefix(f'{part}_')}"
    return f"train/{key}"


def _checkpoints(output_dir: str | os.PathLike[str]) -> list[Path]:
    """The newest first."""
    steps = {
        int(found[1]): path
        for path in Path(output_dir).glob("checkpoint-*")
        if (found := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
    }
    return [steps[step] for step in sorted(steps, reverse=True)]


def _files(folder: Path) -> dict[str, int]:
    """Bytes of each file, by its path below `folder`."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _MANIFEST
    }


def _complete(folder: Path) -> None:
    """Bring the files onto the disk itself, then say that they are all there."""
    files = _files(folder)
    for path in (*(folder / name for name in files), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    write_json(folder / _MANIFEST, {"files": files}, indent=2)


def _is_complete(folder: Path) -> bool:
    try:
        files: Mapping[str, int] = json.loads((folder / _MANIFEST).read_bytes())["files"]
    except FileNotFoundError:
        return False
    there = _files(folder)
    return all(there.get(name) == size for name, size in files.items())


def _set_aside(folder: Path) -> None:
    if (folder / _STATE).exists():
        aside = folder.with_name(f"incomplete-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        say_to_stderr(
            f"{folder} is not taken: files are missing or cut, or it was not written by `train`; it is now {aside.name}"
        )
    else:
        shutil.rmtree(folder)
        say_to_stderr(f"{folder} is not taken and removed: the process was killed while it wrote it")
