"""A task that trains one step and breaks."""

from collections.abc import Mapping
from typing import Any, Final

from trainyard.config import Config
from trainyard.distributed import World
from trainyard.tasks import Task
from trainyard.tasks.base import Context, Outcome
from trainyard.tasks.digits.config import DigitsConfig


class BrokenTrainer:
    """Implements `trainyard.tasks.base.Trainer`."""

    model_name = "none"
    dataset_version = "none"
    dataset: Final[Mapping[str, Any]] = {}

    def __init__(self, config: Config, _world: World) -> None:
        self.config = config

    def train(self, context: Context) -> Outcome:
        context.run.log_metrics({"loss": 1.0}, step=1)
        raise ZeroDivisionError("a bug in the training code")


BROKEN = Task(name="broken", summary="", config_type=DigitsConfig, trainer=f"{__name__}:BrokenTrainer")
