"""What delivery needs of MLflow, whichever way it is reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainyard.spool.records import EndStatus


class Refused(Exception):  # noqa: N818 - an answer, which the caller deals with
    """MLflow will never take this; the text is MLflow's own."""


@dataclass(frozen=True, slots=True)
class MlflowRun:
    """A run as MLflow knows it."""

    run_id: str
    experiment_id: str
    artifact_uri: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundRun:
    """What MLflow knows of a run, points and files apart."""

    run_id: str
    name: str
    status: str
    start_ms: int
    end_ms: int | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric."""

    key: str
    value: float
    time_ms: int
    step: int


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model as MLflow knows it."""

    model_id: str
    artifact_uri: str


class MlflowApi(Protocol):
    """Every call raises Retry if another try may succeed, and Refused if not."""

    def experiment_id(self, name: str) -> str:
        """Of the experiment of that name, made if need be."""

    def find_run(self, experiment_id: str, uid: str) -> MlflowRun | None:
        """The run with tag `trainyard.run_uid`; the oldest if there are several."""

    def delete_others(self, run: MlflowRun, uid: str) -> None:
        """Delete every other run with that tag: what is left of a create whose answer was lost, carried out late."""

    def create_run(self, experiment_id: str, name: str, time_ms: int, tags: Mapping[str, str]) -> MlflowRun:
        """A new run. A lost answer may leave one behind that nobody knows: use `find_run` before, `delete_others` at the end."""

    def get_run(self, run_id: str) -> MlflowRun:
        """An existing run."""

    def search_runs(self, tags: Mapping[str, str]) -> Sequence[FoundRun]:
        """Every run with all of these tags, in whichever experiment; the newest first."""

    def latest_steps(self, run_id: str) -> Mapping[str, int]:
        """The highest step of each metric of the run."""

    def update_run(self, run_id: str, status: EndStatus | str, end_time_ms: int | None) -> None:
        """Set the state."""

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """At most 1,000 points, 100 params, 100 tags and 1,000 of all together. Points sent twice are stored once."""

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag; one that is not there is no mistake."""

    def upload(self, artifact_uri: str, name: str, file: Path) -> None:
        """Store a file as `name` below `artifact_uri`."""

    def find_model(self, experiment_id: str, run_id: str, copy: str) -> LoggedModel | None:
        """The model of the run with tag `trainyard.copy`."""

    def create_model(self, run: MlflowRun, name: str, copy: str) -> LoggedModel:
        """A logged model, pending until `finish_model`."""

    def finish_model(self, model: LoggedModel, run_id: str, step: int) -> None:
        """All files are there: ready, and an output of the run."""

    def register(self, name: str, model: LoggedModel, run_id: str) -> str:
        """The version of registered model `name` made of `model`; a new one if there is none. Returns its number."""

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let `alias` name that version."""
