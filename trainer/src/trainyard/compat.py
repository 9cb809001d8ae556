"""Two widespread ways to write tracking code, on top of `trainyard.run`: what uses them moves over by changing an import.

New code is shorter with `trainyard.run` itself, which also ends a run truthfully after an exception or SIGTERM; of these
two only the `with` block of ExperimentTracker does.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, SupportsFloat, SupportsIndex, cast, get_args

import trainyard
from trainyard.spool.records import EndStatus
from trainyard.tracking.run import Run
from trainyard.tracking.session import RunContext

_Value = SupportsFloat | SupportsIndex
_ADDRESS: Final = "MLFLOW_TRACKING_URI"


class ExperimentTracker:
    """Runs of one experiment, one at a time. As a context manager: one run, failed if an exception leaves the block."""

    def __init__(
        self, experiment_name: str = "default", tracking_uri: str | None = None, run_name: str | None = None
    ) -> None:
        """`tracking_uri`: where MLflow is, stronger than MLFLOW_TRACKING_URI, for this process from the first run on.
        Whether runs go to MLflow is TRAINYARD_TRACKING's to say."""
        self._experiment = experiment_name
        self._tracking_uri = tracking_uri
        self._run_name = run_name
        self._recording = _Recording("ExperimentTracker", "start_run()")

    def start_run(self, run_name: str | None = None, tags: Mapping[str, object] | None = None) -> "ExperimentTracker":
        """Begin a run; returns the tracker, for `with`. Raises RuntimeError if one has begun and not ended."""
        self._start(run_name, tags, in_block=False)
        return self

    def end_run(self, status: str = "FINISHED") -> None:
        """End the run with a status of MLflow: FINISHED, FAILED, KILLED or SCHEDULED. Without a run it does nothing."""
        if status not in get_args(EndStatus):
            raise ValueError(f"end_run: status={status}: must be one of {', '.join(get_args(EndStatus))}")
        self._recording.end(cast(EndStatus, status))

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record settings, nested ones with dots."""
        self._recording.run.log_params(params)

    def log_metrics(self, metrics: Mapping[str, _Value], step: int | None = None) -> None:
        """Record one value per metric. Without `step` each metric counts for itself: 0, then one more than its last."""
        self._recording.log(metrics, step)

    def log_artifact(self, local_path: str | PathLike[str], artifact_path: str | None = None) -> None:
        """Keep a file or a folder under its own name, in the folder `artifact_path` of the run."""
        name = Path(local_path).absolute().name
        self._recording.keep(Path(local_path), f"{artifact_path.strip('/')}/{name}" if artifact_path else name)

    def set_tag(self, key: str, value: object) -> None:
        """Label the run."""
        self._recording.run.set_tags({key: value})

    def __enter__(self) -> "ExperimentTracker":
        if not self._recording.active:
            self._start(None, None, in_block=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recording.leave(kind, error, trace)

    def _start(self, run_name: str | None, tags: Mapping[str, object] | None, *, in_block: bool) -> None:
        context = trainyard.run(self._experiment, name=run_name or self._run_name, tags=tags)
        with _address(self._tracking_uri):
            self._recording.begin(context, in_block=in_block)


class Recorder:
    """Runs of one project, which is MLflow's experiment; one at a time."""

    def __init__(self, project: str = "default") -> None:
        self._project = project
        self._notes = 0
        self._recording = _Recording("Recorder", "initialize()")

    def initialize(self, name: str | None = None, config: Mapping[str, object] | None = None) -> None:
        """Begin a run; `config` becomes its parameters. Raises RuntimeError if one has begun and not finished."""
        self._recording.begin(trainyard.run(self._project, name=name, params=config), in_block=False)
        self._notes = 0

    def log_scalar(self, name: str, value: _Value, step: int | None = None) -> None:
        """Record a metric. Without `step` it counts for itself: 0, then one more than its last."""
        self._recording.log({name: value}, step)

    def log_info(self, key: str | Mapping[str, object], value: object = None) -> None:
        """Record what is no number over time.

        A mapping describes how the run was made and becomes parameters, which MLflow never changes: `log_info({"lr": 0.1})`,
        or `log_info("client", {"count": 8})` as `client.count`. A single value is a label and becomes the tag `key`, which a
        later one replaces. Text alone is a note: tag `note.1`, `note.2` and so on.
        """
        run = self._recording.run
        if isinstance(key, Mapping):
            run.log_params(key)
        elif isinstance(value, Mapping):
            run.log_params({key: value})
        elif value is not None:
            run.set_tags({key: value})
        else:
            self._notes += 1
            run.set_tags({f"note.{self._notes}": key})

    def add_artifact(self, path: str | PathLike[str], name: str | None = None) -> None:
        """Keep a file or a folder as `name`, a path inside the run, or under its own name."""
        self._recording.keep(Path(path), name or Path(path).absolute().name)

    def finish(self, success: bool = True) -> None:
        """End the run as finished, or as failed. Without a run it does nothing."""
        self._recording.end("FINISHED" if success else "FAILED")


class _Recording:
    """The run of one of the classes above, if there is one, and the next step of each metric."""

    def __init__(self, owner: str, starter: str) -> None:
        self._owner = owner
        self._starter = starter
        self._context: RunContext | None = None
        self._run: Run | None = None
        self._next: dict[str, int] = {}
        # Simulated clients log from threads of their own.
        self._lock = threading.Lock()

    @property
    def active(self) -> bool:
        return self._run is not None

    @property
    def run(self) -> Run:
        if self._run is None:
            raise RuntimeError(f"{self._owner}: no run has begun; call {self._starter} first")
        return self._run

    def begin(self, context: RunContext, *, in_block: bool) -> None:
        if self._run is not None:
            raise RuntimeError(f"{self._owner}: run {self._run.name} has not ended; end it before {self._starter}")
        # Only in a block can SIGTERM be turned into an exception that somebody handles.
        self._run = context.__enter__() if in_block else context.start()
        self._context = context
        self._next = {}

    def end(self, status: EndStatus) -> None:
        if self._run is not None:
            run = self._run
            try:
                run.end(status)
            finally:
                self.leave(None, None, None)

    def leave(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        context, self._context, self._run = self._context, None, None
        if context is not None:
            context.__exit__(kind, error, trace)

    def log(self, metrics: Mapping[str, _Value], step: int | None) -> None:
        run = self.run
        with self._lock:
            by_step: dict[int, dict[str, _Value]] = {}
            for key, value in metrics.items():
                by_step.setdefault(self._next.get(key, 0) if step is None else step, {})[key] = value
            for at, values in by_step.items():
                run.log_metrics(values, step=at)
                self._next.update(dict.fromkeys(values, at + 1))

    def keep(self, path: Path, name: str) -> None:
        if path.is_dir():
            self.run.log_artifacts(path, name)
        else:
            self.run.log_artifact(path, name)


@contextmanager
def _address(uri: str | None) -> Iterator[None]:
    """Where MLflow is, for the run that begins in the block and, since it is delivered later, from then on.

    In the environment, for it may hold a password, which delivery takes from there and never from the spool. A start that
    fails changes nothing.
    """
    before = os.environ.get(_ADDRESS)
    if uri is not None:
        os.environ[_ADDRESS] = uri
    try:
        yield
    except BaseException:
        if before is None:
            os.environ.pop(_ADDRESS, None)
        else:
            os.environ[_ADDRESS] = before
        raise
