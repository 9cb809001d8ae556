"""What a sweep does while Tune runs it."""

import signal
from typing import Any

from ray import tune

from trainyard.integrations.ray.trainable import ATTEMPTS, FINISHED, trial_folder
from trainyard.interruption import of_this_process
from trainyard.tracking.session import say_to_stderr
from trainyard.tracking.trial_folder import TrialFolder


class Watch(tune.Callback):
    """Says how trials end, tells those that are pruned, and ends Tune when the pod is to go.

    Kept with the sweep's state, and used again by whichever process goes on: it may hold nothing of this one.
    """

    def __init__(self, sweep_id: str) -> None:
        self._sweep_id = sweep_id

    def on_step_end(self, **_info: Any) -> None:
        """Tune knows SIGUSR1 as the wish to save everything and end; SIGTERM it does not know."""
        if of_this_process().requested:
            signal.raise_signal(signal.SIGUSR1)

    def on_trial_complete(self, trial: Any, **_info: Any) -> None:
        """Called before the trial's process is told to end; not for a trial that is only interrupted."""
        result = trial.last_result
        finished = result.get(FINISHED, False)
        if not finished:
            folder = trial_folder(self._sweep_id, trial.trial_id)
            folder.mkdir(parents=True, exist_ok=True)
            TrialFolder(folder, ()).stop("pruned")
        word = "finished" if finished else "pruned"
        attempts = f", attempt {result[ATTEMPTS]}" if result.get(ATTEMPTS, 1) > 1 else ""
        say_to_stderr(f"trial {trial.trial_id}: {word} after iteration {result.get('training_iteration', 0)}{attempts}")

    def on_trial_recover(self, trial: Any, **_info: Any) -> None:
        """It failed, and is tried again."""
        say_to_stderr(f"trial {trial.trial_id}: interrupted or failed, goes on from its last checkpoint")

    def on_trial_error(self, trial: Any, **_info: Any) -> None:
        """It failed for good."""
        say_to_stderr(f"trial {trial.trial_id}: failed for good; why is above, and in its run")
