"""What can go wrong with a checkpoint, and how a process ends that has written its last one.

CheckpointError        a checkpoint cannot be written or read (exit 1)
+- StoreUnavailable    where checkpoints are does not answer; another try may help
Preempted              SIGTERM came and the checkpoint is written (exit 75)
"""

from trainyard import exit_codes
from trainyard.errors import TrainyardError


class CheckpointError(TrainyardError):
    """A checkpoint cannot be written or read; the message names the place."""


class StoreUnavailable(CheckpointError):  # noqa: N818 - a state of the store, which may pass
    """The store does not answer, or asks to be asked later."""


class Preempted(SystemExit):
    """The process was asked to stop, and the same command goes on where it was. Leaving a run's block by it ends the run as SCHEDULED."""

    def __init__(self, step: int, uri: str) -> None:
        super().__init__(exit_codes.PREEMPTED)
        self.step = step
        self.uri = uri

    def __str__(self) -> str:
        return f"checkpoint of step {self.step} is written to {self.uri}; exit code {self.code}: the same again goes on"
