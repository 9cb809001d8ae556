"""An MLflow server that knows one run and stores nothing: it parses every batch, checks and counts its points. Prints its address."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_RUN = {
    "info": {
        "run_id": "0" * 32,
        "run_uuid": "0" * 32,
        "experiment_id": "1",
        "user_id": "bench",
        "status": "RUNNING",
        "start_time": 1,
        "lifecycle_stage": "active",
        "artifact_uri": "mlflow-artifacts:/1",
    },
    "data": {},
}
_EXPERIMENT = {"experiment_id": "1", "name": "bench-shipper", "lifecycle_stage": "active", "artifact_location": "/"}
_ANSWERS: dict[str, dict[str, Any]] = {
    "experiments/get-by-name": {"experiment": _EXPERIMENT},
    "runs/search": {},
    "runs/create": {"run": _RUN},
    "runs/get": {"run": _RUN},
    "runs/update": {},
}
_FIELDS = {"key", "value", "timestamp", "step"}


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    points = 0
    """Of all requests; each shipper sends one at a time."""

    def do_GET(self) -> None:
        self._answer({"points": _Taker.points} if self.path == "/taken" else self._known())

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._name() != "runs/log-batch":
            self._answer(self._known())
            return
        metrics = content.get("metrics", [])
        if all(point.keys() == _FIELDS and type(point["value"]) is float for point in metrics):
            _Taker.points += len(metrics)
            self._answer({})
        else:
            self._answer({"error_code": "INVALID_PARAMETER_VALUE", "message": "a point lacks a field"}, status=400)

    def _name(self) -> str:
        return self.path.partition("?")[0].removeprefix("/api/2.0/mlflow/")

    def _known(self) -> dict[str, Any] | None:
        return _ANSWERS.get(self._name())

    def _answer(self, content: dict[str, Any] | None, status: int = 200) -> None:
        if content is None:
            status, content = 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": self.path}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each request would be slower than the request."""


def main() -> None:
    """Serve until killed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taker)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
