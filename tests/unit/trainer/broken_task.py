"""A task that trains one step and breaks."""

from collections.abc import Callable

from trainyard.config import Config
from trainyard.interruption import Interruption
from trainyard.tasks import Task
from trainyard.tasks.base import Outcome
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.tracking.run import Run


class BrokenTrainer:
    """Implements `trainyard.tasks.base.Trainer`."""

    model_name = "none"
    dataset_version = "none"
    device = "nowhere"

    def __init__(self, config: Config) -> None:
        self.config = config

    def train(self, run: Run, interruption: Interruption, say: Callable[[str], None]) -> Outcome:  # noqa: ARG002 - the protocol's
        run.log_metrics({"loss": 1.0}, step=1)
        raise ZeroDivisionError("a bug in the training code")


BROKEN = Task(name="broken", summary="", config_type=DigitsConfig, trainer=f"{__name__}:BrokenTrainer")
