"""A run in MLflow. Sent twice is stored once: points by their (key, time, step, value), the run and its models by a tag."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from trainyard.shipping.backend import Progress, Retry
from trainyard.shipping.mlflow.api import LoggedModel, MlflowApi, MlflowRun, Point, Refused
from trainyard.shipping.mlflow.connection import connect, connected
from trainyard.shipping.mlflow.rest import UID_TAG
from trainyard.spool.records import Artifact, End, Metrics, Model, Params, Record, Start, Tags

_T = TypeVar("_T")
_POINTS: Final = 1000
_PAIRS: Final = 100
"""Limits of MLflow for one request: metrics; params, and tags."""


class MlflowBackend:
    """Implements `trainyard.shipping.backend.Backend`."""

    def open(self, start: Start, spool: Path, progress: Progress) -> None:
        """See `Backend`. Makes the run, or finds it."""
        self._start, self._spool, self._progress = start, spool, progress
        self._api, self._http = connect(start.settings["MLFLOW_TRACKING_URI"])
        try:
            self._run = self._find_or_create()
            if progress.state.get("attempt", 1) != start.attempt:
                _take_up(self._api, self._run, start)
        except Refused as refused:
            raise Retry(f"MLflow does not take run {start.name}: {refused}") from refused
        progress.state.update(run_id=self._run.run_id, attempt=start.attempt)
        progress.save()

    def recorded(self) -> Mapping[str, int]:
        """See `Backend`."""
        try:
            return self._api.latest_steps(self._run.run_id)
        except Refused as refused:
            raise Retry(f"MLflow does not show run {self._start.name}: {refused}") from refused

    def deliver(self, records: Sequence[Record]) -> None:
        """See `Backend`."""
        match records[0]:
            case Artifact() as artifact:
                self._upload(self._run.artifact_uri, artifact.name, self._spool / artifact.file)
            case Model() as model:
                self._log_model(model)
            case _:
                self._log(records)

    def finish(self, end: End) -> None:
        """See `Backend`. Whoever owns the run ends it."""
        if not self._start.owner:
            return
        self._api.delete_others(self._run, self._start.uid)
        self._batch((), {}, {"trainyard.end_reason": end.reason})
        # A run that is to be continued has no end.
        self._api.update_run(self._run.run_id, end.status, None if end.status == "SCHEDULED" else end.time_ms)

    def close(self) -> None:
        """See `Backend`."""
        http = getattr(self, "_http", None)
        if http is not None:
            http.close()

    def _find_or_create(self) -> MlflowRun:
        known = self._start.mlflow_run_id or self._progress.state.get("run_id")
        return _find_or_create(self._api, self._start) if known is None else self._api.get_run(known)

    def _log(self, records: Sequence[Record]) -> None:
        points: list[Point] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for record in records:
            match record:
                case Metrics():
                    points += [Point(key, value, record.time_ms, record.step) for key, value in record.values]
                case Params():
                    params |= record.values
                case Tags():
                    tags |= record.values
        for part in _chunks(points, _POINTS):
            self._batch(part, {}, {})
        for pairs in _chunks(list(params.items()), _PAIRS):
            self._batch((), dict(pairs), {})
        for pairs in _chunks(list(tags.items()), _PAIRS):
            self._batch((), {}, dict(pairs))

    def _batch(self, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """One request; what MLflow refuses is halved until the one item is found that it does not take."""
        try:
            self._api.log_batch(self._run.run_id, points, params, tags)
        except Refused as refused:
            self._refuse_deleted(refused)
            items: list[Point | tuple[str, str]] = [*points, *params.items(), *tags.items()]
            if len(items) == 1:
                self._progress.warn(f"run {self._start.name}: refused and left out: {items[0]}: {refused}")
                return
            half = len(items) // 2
            for part in (items[:half], items[half:]):
                pairs = dict(item for item in part if isinstance(item, tuple))
                self._batch(
                    [item for item in part if isinstance(item, Point)], pairs if params else {}, pairs if tags else {}
                )

    def _refuse_deleted(self, refused: Refused) -> None:
        """A deleted run takes nothing, but may be restored."""
        if "must be in the 'active' state" in str(refused) or "RESOURCE_DOES_NOT_EXIST" in str(refused):
            raise Retry(
                f"run {self._run.run_id} is deleted in MLflow; `mlflow runs restore --run-id {self._run.run_id}` makes it go on"
            ) from refused

    def _upload(self, artifact_uri: str, name: str, file: Path) -> None:
        try:
            self._api.upload(artifact_uri, name, file)
        except Refused as refused:
            self._progress.warn(f"run {self._start.name}: artifact {name} is refused and left out: {refused}")

    def _log_model(self, record: Model) -> None:
        model = self._model(record)
        folder = self._spool / record.folder
        uploaded = self._progress.state.setdefault("uploaded", {}).setdefault(record.folder, [])
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = file.relative_to(folder).as_posix()
            if name in uploaded:
                continue
            if name == "MLmodel":
                _point_to(file, model, self._run.run_id)
            self._upload(model.artifact_uri, name, file)
            uploaded.append(name)
            self._progress.save()
        try:
            self._api.finish_model(model, self._run.run_id, record.step)
            if record.register is not None:
                version = self._api.register(record.register, model, self._run.run_id)
                if record.alias is not None:
                    self._api.set_alias(record.register, record.alias, version)
                self._progress.state.setdefault("models", []).append(f"{record.register} version {version}")
        except Refused as refused:
            self._progress.warn(f"run {self._start.name}: model {record.name} could not be registered: {refused}")
        self._progress.state["uploaded"].pop(record.folder)

    def _model(self, record: Model) -> LoggedModel:
        try:
            identity = _identity(record)
            found = self._api.find_model(self._run.experiment_id, self._run.run_id, identity)
            return found or self._api.create_model(self._run, record.name, identity)
        except Refused as refused:
            raise Retry(f"MLflow does not take model {record.name}: {refused}") from refused


def create_run(start: Start) -> Start:
    """Make the run of `start` now, for a program that must know its id. Raises Retry or Refused."""
    with connected(start.settings["MLFLOW_TRACKING_URI"]) as api:
        return replace(start, mlflow_run_id=_find_or_create(api, start).run_id)


def _find_or_create(api: MlflowApi, start: Start) -> MlflowRun:
    experiment = api.experiment_id(start.experiment)
    # Looked for at every attempt: the answer to a create may have been lost, or the shipper killed.
    found = api.find_run(experiment, start.uid)
    if found is not None:
        _take_up(api, found, start)
        return found
    return api.create_run(experiment, start.name, start.time_ms, {**start.tags, UID_TAG: start.uid})


def _identity(record: Model) -> str:
    """What a model is found by when it is sent again. With a step also by a process that continues the run and makes it again."""
    return f"{record.name}@{record.step}" if record.step else record.folder


def _take_up(api: MlflowApi, run: MlflowRun, start: Start) -> None:
    """Go on with a run that exists; its tags tell of the process that does now."""
    api.update_run(run.run_id, "RUNNING", None)
    if start.owner:
        api.log_batch(run.run_id, (), {}, start.tags)


def _point_to(mlmodel: Path, model: LoggedModel, run_id: str) -> None:
    """Write into the model's own description what it is called; it was saved before anybody knew."""
    known = {"artifact_path": model.artifact_uri, "model_id": model.model_id, "run_id": run_id}
    lines = [line for line in mlmodel.read_text().splitlines() if line.partition(":")[0] not in known]
    mlmodel.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in known.items())]) + "\n")


def _chunks(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
