"""Trainyard's training side: what runs inside a training pod, and unchanged on a laptop."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainyard.tracking.session import RunContext

try:
    __version__ = version("trainyard")
except PackageNotFoundError:  # a source tree on PYTHONPATH
    __version__ = "0+source"

__all__ = ["run"]


def run(
    experiment: str = "default",
    *,
    params: object = None,
    name: str | None = None,
    tags: Mapping[str, object] | None = None,
    tracking: str | None = None,
) -> "RunContext":
    """A run of `experiment`, recorded on local disk and delivered in the background.

    As `with trainyard.run(...) as run:`, as a decorator of a function that takes the run first, or by `.start()` and
    `run.end()`. `params`: a mapping or dataclass. `tracking`: `mlflow`, `json`, `wandb` or several with commas; without it
    TRAINYARD_TRACKING decides, else `mlflow`.
    """
    from trainyard.tracking.session import RunContext

    return RunContext(experiment, params=params, name=name, tags=tags, tracking=tracking)
