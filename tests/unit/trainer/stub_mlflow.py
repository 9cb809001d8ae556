"""A server that speaks as much of MLflow's REST API as delivery uses, and fails as it is told. The good path is tested on the
real server (tests/unit/delivery, tests/kind): this one is for answers that a real server cannot be made to give on demand."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, str, str]
Failure = Callable[[str, Any], Answer | None]


@dataclass
class StubMlflow:
    """What the server knows. `fail` sees each request first: an answer from it is sent in place of the real one."""

    uri: str = ""
    fail: Failure = lambda _path, _body: None
    lose_answer_to: str = ""
    """Path of a request that is carried out, but whose connection breaks before the answer."""
    calls: "Counter[str]" = field(default_factory=Counter)
    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    points: list[tuple[str, int, Any]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)
    registered: dict[str, list[str]] = field(default_factory=dict)
    """Model ids of the versions, by name."""
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    authorizations: set[str] = field(default_factory=set)

    def handle(self, method: str, path: str, body: Any) -> Any:
        """The answer's JSON; KeyError for what does not exist."""
        match path.removeprefix("/api/2.0/mlflow/"):
            case "experiments/get-by-name":
                name = body["experiment_name"]
                return {"experiment": {"experiment_id": self.experiments[name], "lifecycle_stage": "active"}}
            case "experiments/create":
                return {"experiment_id": self.experiments.setdefault(body["name"], str(len(self.experiments) + 1))}
            case "runs/search":
                uid = re.search(r"'(\w+)'", body["filter"])
                assert uid
                found = [run for run in self.runs.values() if run["uid"] == uid[1]]
                return {"runs": [{"info": run["info"]} for run in found]}
            case "runs/create":
                return {"run": self._create(body)}
            case "runs/delete":
                del self.runs[body["run_id"]]
                return {}
            case "runs/get":
                outputs = [{"model_id": each} for each in self.outputs]
                return {
                    "run": {
                        "info": self.runs[body["run_id"]]["info"],
                        "data": {},
                        "outputs": {"model_outputs": outputs},
                    }
                }
            case "runs/update":
                self.runs[body["run_id"]].update(status=body["status"])
                return {}
            case "runs/log-batch":
                self.points += [(each["key"], each["step"], each["value"]) for each in body["metrics"]]
                self.params |= {each["key"]: each["value"] for each in body["params"]}
                self.tags |= {each["key"]: each["value"] for each in body["tags"]}
                return {}
        if method != "PUT":
            return self._handle_models(method, path.removeprefix("/api/2.0/mlflow/"), body)
        self.files[path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")] = body
        return {}

    def _handle_models(self, method: str, path: str, body: Any) -> Any:
        match method, path.split("/"):
            case "POST", ["logged-models"]:
                copy = {each["key"]: each["value"] for each in body["tags"]}["trainyard.copy"]
                return {"model": self._model(f"m-{len(self.models)}", copy)}
            case "POST", ["logged-models", "search"]:
                wanted = re.search(r"`trainyard.copy` = '(.*)'", body["filter"])
                assert wanted
                return {"models": [{"info": each} for each in self.models.values() if each["copy"] == wanted[1]]}
            case "PATCH", ["logged-models", model_id]:
                self.models[model_id]["status"] = body["status"]
            case "POST", ["runs", "outputs"]:
                new = {each["model_id"] for each in body["models"]}
                if new & self.outputs:
                    raise ValueError("UNIQUE constraint failed")
                self.outputs |= new
            case "POST", ["registered-models", "create"]:
                if body["name"] in self.registered:
                    raise FileExistsError(body["name"])
                self.registered[body["name"]] = []
            case "GET", ["model-versions", "search"]:
                (name,) = self.registered
                found = [
                    {"version": str(at), "source": f"models:/{each}"}
                    for at, each in enumerate(self.registered[name], start=1)
                ]
                return {"model_versions": found}
            case "POST", ["model-versions", "create"]:
                self.registered[body["name"]].append(body["model_id"])
                return {"model_version": {"version": str(len(self.registered[body["name"]]))}}
            case "POST", ["registered-models", "alias"]:
                self.aliases[body["name"], body["alias"]] = body["version"]
            case unknown:
                raise AssertionError(f"the stand-in does not know {unknown}")
        return {}

    def _model(self, model_id: str, copy: str) -> dict[str, Any]:
        info = {"model_id": model_id, "artifact_uri": f"mlflow-artifacts:/1/models/{model_id}/artifacts"}
        self.models[model_id] = {**info, "copy": copy, "status": "LOGGED_MODEL_PENDING"}
        return {"info": info}

    def _create(self, body: Any) -> dict[str, Any]:
        run_id = f"run{len(self.runs)}"
        tags = {each["key"]: each["value"] for each in body["tags"]}
        info = {
            "run_id": run_id,
            "experiment_id": body["experiment_id"],
            "artifact_uri": f"mlflow-artifacts:/1/{run_id}/artifacts",
        }
        self.runs[run_id] = {"info": info, "uid": tags["trainyard.run_uid"], "status": "RUNNING", "tags": tags}
        return {"info": info}


@contextmanager
def serving(stub: StubMlflow) -> Iterator[StubMlflow]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stub.authorizations.add(self.headers.get("Authorization", ""))
            body: Any = data
            if self.command != "PUT":
                body = json.loads(data) if data else {key: value[0] for key, value in parse_qs(parts.query).items()}
            stub.calls[parts.path.removeprefix("/api/2.0/mlflow/")] += 1
            answer = stub.fail(parts.path, body)
            if answer is None:
                try:
                    answer = (200, "application/json", json.dumps(stub.handle(self.command, parts.path, body)))
                except FileExistsError as there:
                    answer = refusal(400, "RESOURCE_ALREADY_EXISTS", str(there))
                except ValueError as wrong:
                    answer = refusal(400, "BAD_REQUEST", str(wrong))
                except KeyError as missing:
                    answer = refusal(404, "RESOURCE_DOES_NOT_EXIST", str(missing))
                if stub.lose_answer_to and parts.path.endswith(stub.lose_answer_to):
                    stub.lose_answer_to = ""
                    self.close_connection = True
                    self.connection.close()
                    return
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            status, kind, text = answer
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Silence."""

        def handle_error(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stub.uri = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()


def refusal(status: int, code: str, message: str) -> Answer:
    """MLflow's own form of an error."""
    return status, "application/json", json.dumps({"error_code": code, "message": message})
