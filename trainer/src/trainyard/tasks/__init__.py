"""What can be trained. Looking at a task or its configuration imports no torch: mistakes are found in milliseconds."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from trainyard.config import Config
from trainyard.errors import ConfigError
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.tasks.lm.config import LmConfig
from trainyard.tasks.lora.config import LoraConfig
from trainyard.tasks.text.config import TextConfig
from trainyard.tasks.tinynet.config import TinynetConfig

if TYPE_CHECKING:
    from trainyard.distributed import World
    from trainyard.tasks.base import Trainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One thing that can be trained."""

    name: str
    summary: str
    config_type: type[Config]
    trainer: str
    """`module:class` of the Trainer."""

    def load(self) -> "Callable[[Config, World], Trainer]":
        """The Trainer's class; imports torch."""
        module, _, name = self.trainer.partition(":")
        loaded: Callable[[Config, World], Trainer] = getattr(import_module(module), name)
        return loaded


TASKS = {
    task.name: task
    for task in (
        Task(
            name="tinynet",
            summary="A two-layer network on points in the plane, or on your own table of numbers",
            config_type=TinynetConfig,
            trainer="trainyard.tasks.tinynet.train:TinynetTrainer",
        ),
        Task(
            name="digits",
            summary="A small convolutional network on scikit-learn's 1,797 handwritten digits",
            config_type=DigitsConfig,
            trainer="trainyard.tasks.digits.train:DigitsTrainer",
        ),
        Task(
            name="text",
            summary="A small BERT that tells texts apart: docstrings of Python's standard library, or your own texts",
            config_type=TextConfig,
            trainer="trainyard.tasks.text.train:TextTrainer",
        ),
        Task(
            name="lm",
            summary="A small GPT over bytes, on the reference of the Python language or on your own text",
            config_type=LmConfig,
            trainer="trainyard.tasks.lm.train:LmTrainer",
        ),
        Task(
            name="lora",
            summary="A low-rank adapter (peft) for a model of the task lm, on the source of Python or on your own text",
            config_type=LoraConfig,
            trainer="trainyard.tasks.lora.train:LoraTrainer",
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
