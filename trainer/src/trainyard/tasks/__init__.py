"""What can be trained. Looking at a task or its configuration imports no torch: mistakes are found in milliseconds."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from trainyard.config import Config
from trainyard.errors import ConfigError
from trainyard.tasks.digits.config import DigitsConfig

if TYPE_CHECKING:
    from trainyard.tasks.base import Trainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One thing that can be trained."""

    name: str
    summary: str
    config_type: type[Config]
    trainer: str
    """`module:class` of the Trainer."""

    def load(self) -> "Callable[[Config], Trainer]":
        """The Trainer's class; imports torch."""
        module, _, name = self.trainer.partition(":")
        loaded: Callable[[Config], Trainer] = getattr(import_module(module), name)
        return loaded


TASKS = {
    task.name: task
    for task in (
        Task(
            name="digits",
            summary="A small convolutional network on scikit-learn's 1,797 handwritten digits",
            config_type=DigitsConfig,
            trainer="trainyard.tasks.digits.train:DigitsTrainer",
        ),
    )
}


def find_task(name: str) -> Task:
    """Raises ConfigError with the list of tasks for an unknown name."""
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"there is no task {name}{hint}", f"tasks: {', '.join(TASKS)}")
