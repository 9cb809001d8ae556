"""What a script may ask of its run. All of it is written to local disk and delivered by the shipper: nothing waits for a network."""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, SupportsIndex

from trainyard.spool.records import EndStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Run(Protocol):
    """One run, being recorded."""

    uid: str
    """32 hex digits; the tag `trainyard.run_uid` in MLflow, the run's id in W&B."""
    name: str

    def log_metrics(self, metrics: Mapping[str, SupportsFloat | SupportsIndex], *, step: int) -> None:
        """Record one value per metric, in a microsecond or two. Raises TypeError or ValueError for what is no metric."""

    def log_params(self, params: object) -> None:
        """Record settings: a mapping or a dataclass, nested ones with dots. A value of more than 6,000 characters is cut
        visibly and kept whole in the artifact `params/<key>.txt`."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Label the run; a later value replaces an earlier one."""

    def log_artifact(self, path: str | PathLike[str], name: str | None = None) -> None:
        """Keep a copy of a file, as `name` or under its own name. Raises OSError if it cannot be read."""

    def log_artifacts(self, folder: str | PathLike[str], name: str | None = None) -> None:
        """Keep a copy of every file below `folder`, below `name`."""

    def log_bytes(self, name: str, content: bytes) -> None:
        """Keep a file with that content."""

    def log_dict(self, content: Any, name: str) -> None:
        """Keep a file with that content as JSON, or as YAML if `name` ends in .yaml or .yml."""

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Keep a picture of a matplotlib figure; its kind is the ending of `name`."""

    def log_model(
        self,
        model: object,
        *,
        name: str = "model",
        input_example: object = None,
        register: str | None = None,
        alias: str | None = None,
        step: int = 0,
    ) -> None:
        """Keep a model in MLflow's format: a torch module, a scikit-learn estimator, or the path of a folder with `MLmodel`.

        `register`: make it a new version of the registered model of that name; `alias`: what that version is called.
        """

    def sync(self) -> None:
        """Bring the record onto the disk itself; call it where a checkpoint is written. Without it the record survives the
        end of the process, not the loss of power."""

    def end(self, status: EndStatus = "FINISHED", *, reason: str | None = None) -> None:
        """End the run. A second call has no effect."""


class NoRun:
    """Takes everything and records nothing: for the processes of a training whose rank is not 0. Implements `Run`."""

    def __init__(self, name: str) -> None:
        self.uid = "0" * 32
        self.name = name

    def _nothing(self, *_arguments: Any, **_named: Any) -> None:
        """Nothing."""

    log_metrics = log_params = set_tags = _nothing
    log_artifact = log_artifacts = log_bytes = log_dict = log_figure = log_model = _nothing
    sync = end = _nothing
