"""A run in MLflow, by `MlflowClient` only: the fluent API keeps global state and picks experiments by itself."""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from trainyard.errors import ConfigError
from trainyard.tracking.run import RegisteredModel, TrainedModel
from trainyard.tracking.server import is_server

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

_BATCH_POINTS = 1000  # what MLflow takes in one request
_SEND_EVERY_S = 5.0  # so that a slow training is seen to move
_ALIAS = "challenger"


class MlflowRun:
    """A run that is RUNNING until `finish`. Implements `trainyard.tracking.run.Run`."""

    def __init__(self, client: MlflowClient, *, run_id: str, experiment_id: str, name: str) -> None:
        self.run_id = run_id
        self.name = name
        self._client = client
        self._experiment_id = experiment_id
        self._points: list[Metric] = []
        self._sent_at = time.monotonic()

    @classmethod
    def create(cls, client: MlflowClient, *, experiment: str, name: str, tags: Mapping[str, str]) -> "MlflowRun":
        """Start a run. Raises ConfigError if the experiment is in MLflow's bin."""
        experiment_id = _experiment_id(client, experiment)
        created = client.create_run(experiment_id, run_name=name, tags=dict(tags))
        return cls(client, run_id=created.info.run_id, experiment_id=experiment_id, name=name)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record the configuration, as text."""
        self._client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """See `Run`. The time is taken here, so that a batch sent twice is stored once."""
        now_ms = time.time_ns() // 1_000_000
        self._points += [Metric(key, value, now_ms, step) for key, value in metrics.items()]
        if len(self._points) >= _BATCH_POINTS or time.monotonic() - self._sent_at >= _SEND_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Send every recorded metric."""
        while self._points:
            batch = self._points[:_BATCH_POINTS]
            self._client.log_batch(self.run_id, metrics=batch)
            del self._points[: len(batch)]
        self._sent_at = time.monotonic()

    def log_artifact(self, name: str, content: bytes) -> None:
        """See `Run`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))

    def register_model(self, model: TrainedModel, *, name: str) -> RegisteredModel:
        """See `Run`. Saved as a torch.export program (pt2): it loads without our code and without unpickling classes."""
        params = self._client.get_run(self.run_id).data.params
        # Made here, because Model.log would put it into whatever experiment is active in this process.
        logged = self._client.create_logged_model(
            self._experiment_id, name="model", source_run_id=self.run_id, params=params
        )
        Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pytorch,
            run_id=self.run_id,
            model_id=logged.model_id,
            pytorch_model=model.module,
            signature=infer_signature(model.input_example, model.output_example),
            input_example=model.input_example,
            serialization_format="pt2",
            # Named, or MLflow would load the model in a new process to find out.
            pip_requirements=_requirements(),
        )
        with _unless_it_exists():
            self._client.create_registered_model(name)
        version = self._client.create_model_version(
            name, f"models:/{logged.model_id}", run_id=self.run_id, model_id=logged.model_id
        ).version
        self._client.set_registered_model_alias(name, _ALIAS, version)
        return RegisteredModel(name=name, version=str(version))

    def finish(self, status: EndStatus, *, tags: Mapping[str, str]) -> None:
        """Send what is left and end the run. Raises MlflowException if the server is gone."""
        self.flush()
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self._client.set_terminated(self.run_id, status)


def connect(uri: str) -> MlflowClient:
    """A client for `uri`; a new database file gets its tables here. Raises ConfigError if it cannot be written."""
    if not is_server(uri):
        _refuse_unwritable(_database(uri))
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns that an image without pip has no version of pip.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # In a pod it would be the Service's address, which opens in nobody's browser.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Model.log and the artifact stores look at the process-wide URI.
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


def _database(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///")).absolute()


def _refuse_unwritable(database: Path) -> None:
    """Without this, MLflow tries for a minute and then shows 100 lines of SQLAlchemy."""
    place = database if database.exists() else database.parent
    if not os.access(place, os.W_OK):
        raise ConfigError(
            f"MLFLOW_TRACKING_URI=sqlite:///{database}: {place} is not writable; set MLFLOW_TRACKING_URI to a server "
            "or work in a directory that is"
        )


def _experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment called `name`, made if need be; of several processes that make it, all get the same one."""
    if client.get_experiment_by_name(name) is None:
        with _unless_it_exists():
            client.create_experiment(name, artifact_location=_artifact_location())
    experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment={name}: this experiment is deleted in MLflow; restore it "
            f"(mlflow experiments restore --experiment-id {experiment.experiment_id}) or choose another name"
        )
    return str(experiment.experiment_id)


def _artifact_location() -> str | None:
    """A server knows where its artifacts go; with a database file they go into `mlartifacts` beside it."""
    uri = mlflow.get_tracking_uri()
    return None if is_server(uri) else _database(uri).with_name("mlartifacts").as_uri()


@contextlib.contextmanager
def _unless_it_exists() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _requirements() -> list[str]:
    """What loads the model: torch without a local version such as `+debian`, which no index has."""
    return [
        f"mlflow=={mlflow.__version__}",
        f"numpy=={np.__version__}",
        f"torch=={torch.__version__.partition('+')[0]}",
    ]
