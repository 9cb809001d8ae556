"""What every task is to the rest: something that trains into a run, and can be continued."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainyard.config import Config
from trainyard.tracking.run import Run

if TYPE_CHECKING:
    from trainyard.checkpoint import Checkpointer
    from trainyard.distributed import World


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a finished training has to show."""

    metrics: Mapping[str, float]
    """The few that are printed at the end, such as `test/accuracy`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a training is given."""

    run: Run
    """Records on rank 0, and nothing elsewhere."""
    world: "World"
    """The processes that train together."""
    say: Callable[[str], None]
    """Takes a line for people, one per epoch or so; says it on rank 0."""
    checkpointer: "Callable[..., Checkpointer]"
    """Makes the training's Checkpointer of the objects to be saved, by name: `checkpointer(model=..., optimizer=...)`."""


class Trainer(Protocol):
    """One training of one configuration; made with (configuration, world), when it loads its data and may raise ConfigError."""

    @property
    def config(self) -> Config:
        """What is trained."""

    @property
    def model_name(self) -> str:
        """Kind of model, as in run names."""

    @property
    def dataset_version(self) -> str:
        """Of the data: hash of its content, or what DVC says."""

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Statistics of the data: numbers, lists and texts, for the artifact `dataset.json`."""

    def train(self, context: Context) -> Outcome:
        """Train, evaluate, register. Calls `after_step` of its Checkpointer after each step."""
