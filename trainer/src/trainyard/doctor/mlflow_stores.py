"""Reading back from MLflow, and deleting there: what delivery never does."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from trainyard.doctor.examination import Trouble
from trainyard.doctor.mlflow_http import WatchedHttp
from trainyard.shipping.backend import Retry
from trainyard.shipping.mlflow.api import MlflowApi, MlflowRun, Point
from trainyard.shipping.mlflow.rest import RestMlflow

_SAME_MACHINE: Final = ("127.0.0.1", "localhost", "::1")


class RestStore:
    """A server. Implements `trainyard.doctor.mlflow_run.Store`."""

    def __init__(self, http: WatchedHttp) -> None:
        self.api: MlflowApi = RestMlflow(http)
        self._http = http

    def history(self, run_id: str, key: str) -> Sequence[Point]:
        """See `Store`."""
        answer = self._http.call("GET", "2.0/mlflow/metrics/get-history", run_id=run_id, metric_key=key)
        return [
            Point(each["key"], float(each["value"]), int(each["timestamp"]), int(each.get("step", 0)))
            for each in answer.get("metrics", ())
        ]

    def refuse_lost_artifacts(self, run: MlflowRun) -> None:
        """See `Store`."""
        host = urlsplit(self._http.shown).hostname
        if urlsplit(run.artifact_uri).scheme in ("", "file") and host not in _SAME_MACHINE:
            raise Trouble(
                f"artifacts belong into {run.artifact_uri}, a folder of the server: from here they would go to one of this machine",
                "start the server with --serve-artifacts; only experiments made after that have another place",
            )

    def artifact(self, run: MlflowRun, name: str) -> bytes:
        """See `Store`."""
        parts = urlsplit(run.artifact_uri)
        if parts.scheme == "mlflow-artifacts":
            return self._http.get(f"{parts.path.strip('/')}/{name}")
        return _read_directly(run.artifact_uri, name)

    def discard(self, run: MlflowRun, name: str | None) -> None:
        """See `Store`."""
        try:
            parts = urlsplit(run.artifact_uri)
            if name is not None and parts.scheme == "mlflow-artifacts":
                self._http.delete(f"{parts.path.strip('/')}/{name}")
            elif name is not None:
                _delete_directly(run.artifact_uri, name)
        finally:
            self._http.call("POST", "2.0/mlflow/runs/delete", {"run_id": run.run_id})


class DatabaseStore:
    """A database file. Implements `trainyard.doctor.mlflow_run.Store`."""

    def __init__(self, uri: str) -> None:
        """Raises Retry."""
        from mlflow import MlflowClient

        from trainyard.shipping.mlflow.local import LocalMlflow

        try:
            self.api: MlflowApi = LocalMlflow(uri)
            self._client = MlflowClient(uri)
        except Exception as error:  # MLflow's, SQLAlchemy's or alembic's
            raise Retry(str(error)) from error

    def history(self, run_id: str, key: str) -> Sequence[Point]:
        """See `Store`."""
        found = self._client.get_metric_history(run_id, key)
        return [Point(each.key, each.value, each.timestamp, each.step) for each in found]

    def refuse_lost_artifacts(self, run: MlflowRun) -> None:
        """See `Store`. They are beside the file."""

    def artifact(self, run: MlflowRun, name: str) -> bytes:
        """See `Store`."""
        return _read_directly(run.artifact_uri, name)

    def discard(self, run: MlflowRun, name: str | None) -> None:
        """See `Store`."""
        try:
            if name is not None:
                _delete_directly(run.artifact_uri, name)
        finally:
            self._client.delete_run(run.run_id)


def _read_directly(artifact_uri: str, name: str) -> bytes:
    """Past the server, as `upload_directly` writes. Raises Retry."""
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with tempfile.TemporaryDirectory() as folder:
            return Path(get_artifact_repository(artifact_uri).download_artifacts(name, folder)).read_bytes()
    except Exception as error:  # each store has its own
        raise Retry(f"{artifact_uri} does not give back {name}: {error}") from error


def _delete_directly(artifact_uri: str, name: str) -> None:
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(artifact_uri).delete_artifacts(name)
    except Exception as error:
        raise Retry(f"{name} cannot be deleted from {artifact_uri}: {error}") from error
