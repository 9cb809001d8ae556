"""A trial, in the process of its own that Ray makes for it."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from ray import tune
from ray.tune.result import RESULT_DUPLICATE

from trainyard.environment import JobEnvironment
from trainyard.tracking.session import Session, new_start, say_to_stderr
from trainyard.tracking.spooled_run import SpooledRun
from trainyard.tracking.trial_folder import TrialFolder

FINISHED: Final = "trainyard_finished"
"""In a result: the trial has done all its iterations."""
ATTEMPTS: Final = "trainyard_attempts"
"""In a result: processes that have worked on the trial."""


def trial_folder(sweep_id: str, trial_id: str) -> Path:
    """Where the sweep tells a trial that it is to end for good; below the state directory, which all pods of a sweep share."""
    return JobEnvironment.read(os.environ).state_dir / "ray-trials" / sweep_id / trial_id


class TrackedTrainable(tune.Trainable):
    """Tune's Trainable, whose iterations are the steps of a run.

    A trial that goes on, in whichever process, is the same run; iterations done again are recorded once. A trial that the
    scheduler ends early is a run with the end reason `pruned`. A subclass must have `build` and `iterate`, which say so here as
    Tune's own Trainable does of `step`, and Tune's `save_checkpoint` and `load_checkpoint`.
    """

    experiment: ClassVar[str] = "default"
    """Where the runs are in MLflow: those of the trials, and the sweep's own above them."""
    iterations: ClassVar[int]
    """How many make a whole trial."""
    run: SpooledRun
    """The trial's; for whatever else is to be recorded."""

    def build(self, config: dict[str, Any]) -> None:
        """Make the model and what trains it, of the trial's parameters."""
        raise NotImplementedError

    def iterate(self) -> Mapping[str, float]:
        """Train for one iteration and return its metrics."""
        raise NotImplementedError

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the run, or go on with it; Ray calls this."""
        environment = _become_trial(self.trial_id, config)
        start = new_start(environment, experiment=self.experiment, default_name=self.experiment)
        self.run = Session(environment, start, say=say_to_stderr).run
        with self._recorded():
            self.run.log_params(config)
            self.build(config)

    def step(self) -> dict[str, Any]:
        """One iteration; Ray calls this."""
        if self.iteration >= self.iterations:  # interrupted after its last one, before the sweep knew
            self.run.end("FINISHED")
            return {RESULT_DUPLICATE: True}
        number = self.iteration + 1
        finished = number == self.iterations
        with self._recorded():
            metrics = {name: float(value) for name, value in self.iterate().items()}
            self.run.log_metrics(metrics, step=number)
            if finished:
                # Before Tune hears of it: a trial counts as finished when its record is delivered.
                self.run.end("FINISHED")
        return {**metrics, "done": finished, FINISHED: finished, ATTEMPTS: self.run.folder.attempt}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """A checkpoint, which must not be ahead of the record; Ray calls this."""
        with self._recorded():
            if self.iteration < self.iterations:
                self.run.sync()
            return super().save(checkpoint_dir)

    def restore(self, checkpoint: Any) -> None:
        """Go on from a checkpoint; Ray calls this."""
        with self._recorded():
            super().restore(checkpoint)
        say_to_stderr(f"trial {self.trial_id} goes on after iteration {self.iteration}")

    def cleanup(self) -> None:
        """End the run if it has not ended: to be continued, if the sweep does not say otherwise. Ray calls this."""
        self.run.end("SCHEDULED")

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[None]:
        """What goes wrong is in the run, too."""
        try:
            yield
        except BaseException as error:
            self.run.fail(error)
            raise


def _become_trial(trial_id: str, config: Mapping[str, Any]) -> JobEnvironment:
    """Let this process be that trial, for its own run and for whatever it starts."""
    os.environ["TRAINYARD_TRIAL"] = trial_id
    folder = trial_folder(os.environ["TRAINYARD_SWEEP_ID"], trial_id)
    # What an attempt before this one was told holds no longer.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    TrialFolder.make(folder, ())
    os.environ |= {"TRAINYARD_TRIAL_DIR": str(folder), "TRAINYARD_PARAMETERS": json.dumps(config, default=str)}
    return JobEnvironment.read(os.environ)
