"""MLflow by its REST API, version 3.17. Implements `trainyard.shipping.mlflow.api.MlflowApi`."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from trainyard.shipping.backend import Retry, Unusable
from trainyard.shipping.mlflow.api import FoundRun, LoggedModel, MlflowRun, Point, Refused
from trainyard.shipping.mlflow.http import MlflowHttp
from trainyard.spool.records import EndStatus

UID_TAG = "trainyard.run_uid"
COPY_TAG = "trainyard.copy"
_PAGE: Final = 1000
"""Of a search; what MLflow takes at most is more."""


class RestMlflow:
    """An MLflow server."""

    def __init__(self, http: MlflowHttp) -> None:
        self._http = http

    def experiment_id(self, name: str) -> str:
        """See `MlflowApi`."""
        found = self._experiment(name)
        if found is not None:
            return str(found["experiment_id"])
        try:
            return str(self._http.call("POST", "2.0/mlflow/experiments/create", {"name": name})["experiment_id"])
        except Refused:
            found = self._experiment(name)  # somebody else has just made it
            if found is None:
                raise
            return str(found["experiment_id"])

    def refuse_deleted_experiment(self, name: str) -> None:
        """Raises Unusable if the experiment is in MLflow's bin."""
        self._experiment(name)

    def _experiment(self, name: str) -> dict[str, Any] | None:
        try:
            answer = self._http.call("GET", "2.0/mlflow/experiments/get-by-name", experiment_name=name)
        except Refused as refused:
            if "RESOURCE_DOES_NOT_EXIST" in str(refused):
                return None
            raise
        found = dict(answer["experiment"])
        if found["lifecycle_stage"] != "active":
            raise Unusable(
                f"experiment {name} is deleted in MLflow; restore it: "
                f"mlflow experiments restore --experiment-id {found['experiment_id']}"
            )
        return found

    def find_run(self, experiment_id: str, uid: str) -> MlflowRun | None:
        """See `MlflowApi`."""
        return next(iter(self._find_runs(experiment_id, uid)), None)

    def delete_others(self, run: MlflowRun, uid: str) -> None:
        """See `MlflowApi`."""
        for found in self._find_runs(run.experiment_id, uid):
            if found.run_id != run.run_id:
                self._http.call("POST", "2.0/mlflow/runs/delete", {"run_id": found.run_id})

    def _find_runs(self, experiment_id: str, uid: str) -> list[MlflowRun]:
        query = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{UID_TAG}` = '{uid}'",
            "order_by": ["attributes.start_time", "attributes.run_id"],
        }
        return [_run(run["info"]) for run in self._http.call("POST", "2.0/mlflow/runs/search", query).get("runs", ())]

    def create_run(self, experiment_id: str, name: str, time_ms: int, tags: Mapping[str, str]) -> MlflowRun:
        """See `MlflowApi`."""
        answer = self._http.call(
            "POST",
            "2.0/mlflow/runs/create",
            {
                "experiment_id": experiment_id,
                "run_name": name,
                "user_id": tags.get("mlflow.user", ""),
                "start_time": time_ms,
                "tags": _pairs(tags),
            },
        )
        return _run(answer["run"]["info"])

    def get_run(self, run_id: str) -> MlflowRun:
        """See `MlflowApi`."""
        return _run(self._http.call("GET", "2.0/mlflow/runs/get", run_id=run_id)["run"]["info"])

    def search_runs(self, tags: Mapping[str, str]) -> Sequence[FoundRun]:
        """See `MlflowApi`."""
        experiments = [each["experiment_id"] for each in self._pages("experiments/search", "experiments", {})]
        query = {
            "experiment_ids": experiments,
            "filter": tag_filter(tags),
            "order_by": ["attributes.start_time DESC", "attributes.run_id"],
        }
        return [_found_run(run) for run in self._pages("runs/search", "runs", query)]

    def _pages(self, path: str, kind: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            answer = self._http.call("POST", f"2.0/mlflow/{path}", {**query, "max_results": _PAGE, **token})
            yield from answer.get(kind, ())
            if not answer.get("next_page_token"):
                return
            token = {"page_token": answer["next_page_token"]}

    def latest_steps(self, run_id: str) -> Mapping[str, int]:
        """See `MlflowApi`."""
        data = self._http.call("GET", "2.0/mlflow/runs/get", run_id=run_id)["run"]["data"]
        return {metric["key"]: int(metric["step"]) for metric in data.get("metrics", ())}

    def update_run(self, run_id: str, status: EndStatus | str, end_time_ms: int | None) -> None:
        """See `MlflowApi`."""
        ended = {} if end_time_ms is None else {"end_time": end_time_ms}
        self._http.call("POST", "2.0/mlflow/runs/update", {"run_id": run_id, "status": status, **ended})

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """See `MlflowApi`."""
        metrics = [
            {"key": each.key, "value": _json_number(each.value), "timestamp": each.time_ms, "step": each.step}
            for each in points
        ]
        body = {"run_id": run_id, "metrics": metrics, "params": _pairs(params), "tags": _pairs(tags)}
        self._http.call("POST", "2.0/mlflow/runs/log-batch", body)

    def delete_tag(self, run_id: str, key: str) -> None:
        """See `MlflowApi`."""
        try:
            self._http.call("POST", "2.0/mlflow/runs/delete-tag", {"run_id": run_id, "key": key})
        except Refused as refused:
            if "No tag with name" not in str(refused):
                raise

    def upload(self, artifact_uri: str, name: str, file: Path) -> None:
        """See `MlflowApi`."""
        parts = urlsplit(artifact_uri)
        if parts.scheme == "mlflow-artifacts":
            self._http.put(f"{parts.path.strip('/')}/{name}", file)
        else:
            upload_directly(artifact_uri, name, file)

    def find_model(self, experiment_id: str, run_id: str, copy: str) -> LoggedModel | None:
        """See `MlflowApi`."""
        answer = self._http.call(
            "POST",
            "2.0/mlflow/logged-models/search",
            {
                "experiment_ids": [experiment_id],
                "filter": f"source_run_id = '{run_id}' AND tags.`{COPY_TAG}` = '{copy}'",
            },
        )
        return next((_model(model) for model in answer.get("models", ())), None)

    def create_model(self, run: MlflowRun, name: str, copy: str) -> LoggedModel:
        """See `MlflowApi`."""
        params = self._http.call("GET", "2.0/mlflow/runs/get", run_id=run.run_id)["run"]["data"].get("params", [])
        answer = self._http.call(
            "POST",
            "2.0/mlflow/logged-models",
            {
                "experiment_id": run.experiment_id,
                "name": name,
                "source_run_id": run.run_id,
                "params": params[:100],
                "tags": _pairs({COPY_TAG: copy}),
            },
        )
        return _model(answer["model"])

    def finish_model(self, model: LoggedModel, run_id: str, step: int) -> None:
        """See `MlflowApi`."""
        path = f"2.0/mlflow/logged-models/{model.model_id}"
        self._http.call("PATCH", path, {"model_id": model.model_id, "status": "LOGGED_MODEL_READY"})
        run = self._http.call("GET", "2.0/mlflow/runs/get", run_id=run_id)["run"]
        outputs = run.get("outputs", {}).get("model_outputs", ())
        # MLflow refuses a second time.
        if model.model_id not in {each["model_id"] for each in outputs}:
            new = [{"model_id": model.model_id, "step": step}]
            self._http.call("POST", "2.0/mlflow/runs/outputs", {"run_id": run_id, "models": new})

    def register(self, name: str, model: LoggedModel, run_id: str) -> str:
        """See `MlflowApi`."""
        try:
            self._http.call("POST", "2.0/mlflow/registered-models/create", {"name": name})
        except Refused as refused:
            if "RESOURCE_ALREADY_EXISTS" not in str(refused):
                raise
        found = self._http.call(
            "GET", "2.0/mlflow/model-versions/search", filter=f"name = {json.dumps(name)} AND run_id = '{run_id}'"
        )
        source = f"models:/{model.model_id}"
        for version in found.get("model_versions", ()):
            # MLflow's store keeps no model_id of a version.
            if version["source"] == source:
                return str(version["version"])
        body = {"name": name, "source": source, "run_id": run_id, "model_id": model.model_id}
        return str(self._http.call("POST", "2.0/mlflow/model-versions/create", body)["model_version"]["version"])

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """See `MlflowApi`."""
        self._http.call(
            "POST", "2.0/mlflow/registered-models/alias", {"name": name, "alias": alias, "version": version}
        )


def upload_directly(artifact_uri: str, name: str, file: Path) -> None:
    """Into a store that the server does not stand in front of, such as s3://, by MLflow's own code. Raises Retry."""
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        folder, _, _ = name.rpartition("/")
        # Its uploads keep the file's own name.
        target = file if file.name == Path(name).name else _under_its_name(file, Path(name).name)
        get_artifact_repository(artifact_uri).log_artifact(str(target), folder or None)
    except Exception as error:
        raise Retry(f"{artifact_uri} does not take {name}: {error}") from error


def _under_its_name(file: Path, name: str) -> Path:
    folder = file.with_name(f".{file.name}.as")
    folder.mkdir(exist_ok=True)
    link = folder / name
    link.unlink(missing_ok=True)
    link.hardlink_to(file)
    return link


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _json_number(value: float) -> float | str:
    """As protobuf writes what JSON has no number for."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _run(info: Mapping[str, Any]) -> MlflowRun:
    return MlflowRun(run_id=info["run_id"], experiment_id=info["experiment_id"], artifact_uri=info["artifact_uri"])


def tag_filter(tags: Mapping[str, str]) -> str:
    """The search for runs that have all of these; values hold no quotes."""
    return " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())


def _found_run(run: Mapping[str, Any]) -> FoundRun:
    info, data = run["info"], run["data"]
    return FoundRun(
        run_id=info["run_id"],
        name=info.get("run_name", ""),
        status=info["status"],
        start_ms=int(info["start_time"]),
        end_ms=int(info["end_time"]) if info.get("end_time") else None,
        params={each["key"]: each["value"] for each in data.get("params", ())},
        metrics={each["key"]: float(each["value"]) for each in data.get("metrics", ())},
        tags={each["key"]: each["value"] for each in data.get("tags", ())},
    )


def _model(model: Mapping[str, Any]) -> LoggedModel:
    return LoggedModel(model_id=model["info"]["model_id"], artifact_uri=model["info"]["artifact_uri"])
