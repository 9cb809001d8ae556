"""A laptop without a server: MLflow's own client on a database file. Implements `trainyard.shipping.mlflow.api.MlflowApi`."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.db.utils import _initialize_tables

from trainyard.shipping.backend import Retry, Unusable
from trainyard.shipping.mlflow.api import FoundRun, LoggedModel, MlflowRun, Point, Refused
from trainyard.shipping.mlflow.rest import COPY_TAG, UID_TAG, tag_filter, upload_directly
from trainyard.spool.records import EndStatus


class LocalMlflow:
    """The database file of `sqlite:///FILE`; artifacts go into `mlartifacts` beside it."""

    def __init__(self, uri: str) -> None:
        """Makes the tables of a new file, which takes some seconds."""
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        file = Path(uri.removeprefix("sqlite:///")).absolute()
        self._artifacts = file.with_name("mlartifacts").as_uri()
        if not file.exists() and file.parent.is_dir():
            _make(file)
        self._client = MlflowClient(uri)

    def experiment_id(self, name: str) -> str:
        """See `MlflowApi`."""
        with _translated():
            if self._client.get_experiment_by_name(name) is None:
                with _unless_it_exists():
                    self._client.create_experiment(name, artifact_location=self._artifacts)
            experiment = self._client.get_experiment_by_name(name)
        if experiment.lifecycle_stage != "active":
            raise Unusable(
                f"experiment {name} is deleted in MLflow; restore it: "
                f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            )
        return str(experiment.experiment_id)

    def find_run(self, experiment_id: str, uid: str) -> MlflowRun | None:
        """See `MlflowApi`."""
        with _translated():
            found = self._client.search_runs([experiment_id], f"tags.`{UID_TAG}` = '{uid}'", max_results=1)
        return next((_run(run) for run in found), None)

    def delete_others(self, run: MlflowRun, uid: str) -> None:
        """See `MlflowApi`. A file has no answers to lose."""

    def create_run(self, experiment_id: str, name: str, time_ms: int, tags: Mapping[str, str]) -> MlflowRun:
        """See `MlflowApi`."""
        with _translated():
            return _run(self._client.create_run(experiment_id, start_time=time_ms, tags=dict(tags), run_name=name))

    def get_run(self, run_id: str) -> MlflowRun:
        """See `MlflowApi`."""
        with _translated():
            return _run(self._client.get_run(run_id))

    def search_runs(self, tags: Mapping[str, str]) -> Sequence[FoundRun]:
        """See `MlflowApi`."""
        with _translated():
            experiments = [each.experiment_id for each in _pages(self._client.search_experiments)]
            order = ["attributes.start_time DESC", "attributes.run_id"]
            runs = _pages(partial(self._client.search_runs, experiments, tag_filter(tags), order_by=order))
            return [_found_run(run) for run in runs]

    def latest_steps(self, run_id: str) -> Mapping[str, int]:
        """See `MlflowApi`."""
        with _translated():
            # Its entity for people has values only.
            metrics = self._client.get_run(run_id).data.to_proto().metrics
        return {metric.key: metric.step for metric in metrics}

    def update_run(self, run_id: str, status: EndStatus | str, end_time_ms: int | None) -> None:
        """See `MlflowApi`."""
        with _translated():
            if end_time_ms is None:
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, end_time_ms)

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """See `MlflowApi`."""
        with _translated():
            self._client.log_batch(
                run_id,
                [Metric(each.key, each.value, each.time_ms, each.step) for each in points],
                [Param(key, value) for key, value in params.items()],
                [RunTag(key, value) for key, value in tags.items()],
            )

    def delete_tag(self, run_id: str, key: str) -> None:
        """See `MlflowApi`."""
        try:
            with _translated():
                self._client.delete_tag(run_id, key)
        except Refused as refused:
            if "No tag with name" not in str(refused):
                raise

    def upload(self, artifact_uri: str, name: str, file: Path) -> None:
        """See `MlflowApi`."""
        upload_directly(artifact_uri, name, file)

    def find_model(self, experiment_id: str, run_id: str, copy: str) -> LoggedModel | None:
        """See `MlflowApi`."""
        with _translated():
            found = self._client.search_logged_models(
                [experiment_id], f"source_run_id = '{run_id}' AND tags.`{COPY_TAG}` = '{copy}'"
            )
        return next((LoggedModel(model.model_id, model.artifact_location) for model in found), None)

    def create_model(self, run: MlflowRun, name: str, copy: str) -> LoggedModel:
        """See `MlflowApi`."""
        with _translated():
            params = self._client.get_run(run.run_id).data.params
            model = self._client.create_logged_model(
                run.experiment_id, name=name, source_run_id=run.run_id, params=params, tags={COPY_TAG: copy}
            )
        return LoggedModel(model.model_id, model.artifact_location)

    def finish_model(self, model: LoggedModel, run_id: str, step: int) -> None:
        """See `MlflowApi`."""
        with _translated():
            self._client.finalize_logged_model(model.model_id, "READY")
            outputs = self._client.get_run(run_id).outputs
            # MLflow refuses a second time.
            if model.model_id not in {each.model_id for each in (outputs.model_outputs if outputs else ())}:
                self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])

    def register(self, name: str, model: LoggedModel, run_id: str) -> str:
        """See `MlflowApi`."""
        with _translated():
            with _unless_it_exists():
                self._client.create_registered_model(name)
            source = f"models:/{model.model_id}"
            for version in self._client.search_model_versions(f"name = '{name}' AND run_id = '{run_id}'"):
                # MLflow's store keeps no model_id of a version.
                if version.source == source:
                    return str(version.version)
            return str(self._client.create_model_version(name, source, run_id=run_id, model_id=model.model_id).version)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """See `MlflowApi`."""
        with _translated():
            self._client.set_registered_model_alias(name, alias, version)


def _run(run: object) -> MlflowRun:
    info = run.info  # type: ignore[attr-defined]  # mlflow is untyped where the checks run
    return MlflowRun(run_id=info.run_id, experiment_id=info.experiment_id, artifact_uri=info.artifact_uri)


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _found_run(run: object) -> FoundRun:
    info, data = run.info, run.data  # type: ignore[attr-defined]  # as above
    return FoundRun(
        run_id=info.run_id,
        name=info.run_name,
        status=info.status,
        start_ms=info.start_time,
        end_ms=info.end_time,
        params=data.params,
        metrics=data.metrics,
        tags=data.tags,
    )


@contextlib.contextmanager
def _unless_it_exists() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _make(file: Path) -> None:
    """A database with MLflow's tables, whole from the start: MLflow cannot go on with what a killed process made by halves."""
    with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as folder:
        made = Path(folder, file.name)
        engine = sqlalchemy.create_engine(f"sqlite:///{made}")
        _initialize_tables(engine)
        engine.dispose()
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(made, file)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """MLflow's own exception as one of ours: a locked or full database may come right, a wrong value does not."""
    try:
        yield
    except MlflowException as error:
        if error.get_http_status_code() in (400, 404):
            raise Refused(f"{error.error_code}: {error.message}") from error
        raise Retry(str(error)) from error
