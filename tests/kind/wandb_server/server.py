"""The HTTP side: who may ask, and which function answers."""

import base64
import gzip
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from . import file_stream, sweeps
from .operations import OPERATIONS
from .store import KEY, File, Store, Sweep

SWEEP_ACTIONS: Final[dict[str, Callable[[Store, Sweep], None]]] = {
    "stop": partial(sweeps.change_state, state="FINISHED"),
    "cancel": partial(sweeps.change_state, state="CANCELED"),
    "pause": partial(sweeps.change_state, state="PAUSED"),
    "resume": partial(sweeps.change_state, state="RUNNING"),
    "delete": sweeps.delete,
}
"""What a person may do to a sweep in W&B's web page."""


class Server(ThreadingHTTPServer):
    """Serves one `Store`; `public_url` is how clients reach it, by default by the address it listens on."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0, public_url: str = "", key: str = KEY) -> None:
        super().__init__((host, port), Handler)
        self.store = Store(public_url or f"http://{host}:{self.server_address[1]}", key)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what happened is in the state."""

    def do_GET(self) -> None:
        """State for tests, and health."""
        if self.path == "/healthz":
            self._answer(200, {"ok": True})
        elif self.path == "/standin/state":
            self._answer(200, self.server.store.as_json())
        else:
            self._answer(404, {"error": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        """GraphQL and the file stream; `/standin/...` for tests."""
        body = self._body()
        if self.path.startswith("/standin/"):
            self._answer(*self._for_tests(self.path.removeprefix("/standin/"), json.loads(body)))
        elif self.path.startswith("/sdk/otel/"):
            self._answer(404, {})  # tells the client's telemetry to stay silent
        elif self._may_pass():
            if self.path == "/graphql":
                self._graphql(json.loads(body))
            elif path := re.fullmatch(r"/files/([^/]+/[^/]+/[^/]+)/file_stream", urlsplit(self.path).path):
                self._file_stream(unquote(path[1]), json.loads(body))
            else:
                self._answer(404, {"error": f"no such path: {self.path}"})

    def do_PUT(self) -> None:
        """Uploads. Their URLs need no key, as signed URLs of an object store need none."""
        body = self._body()
        store = self.server.store
        kind, _, rest = unquote(urlsplit(self.path).path).removeprefix("/upload/").partition("/")
        if store.outage:
            self._answer(store.outage, {"error": "outage"})
            return
        with store.lock:
            if kind == "run":
                entity, project, name, file = rest.split("/", 3)
                store.runs[f"{entity}/{project}/{name}"].files[file] = File.of(body)
            else:
                artifact_id, file = rest.split("/", 1)
                artifact = store.artifacts[artifact_id]
                if kind == "manifest":
                    artifact.manifest = json.loads(body)
                else:
                    artifact.files[file] = File.of(body)
        self._answer(200, {})

    def _for_tests(self, what: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        store = self.server.store
        with store.lock:
            if what == "outage":
                store.outage = int(asked["status"])
                if not store.outage:
                    store.outage_ends()
            elif what == "silence":
                store.silence_s = float(asked["seconds"])
            elif what == "sweep" and asked["sweep"] in store.sweeps and asked["do"] in SWEEP_ACTIONS:
                SWEEP_ACTIONS[asked["do"]](store, store.sweeps[asked["sweep"]])
            else:
                return 404, {"error": f"nothing to do: {what} {asked}"}
        return 200, {}

    def _may_pass(self) -> bool:
        store = self.server.store
        if store.outage:
            self._answer(store.outage, {"error": "outage"})
            return False
        expected = "Basic " + base64.b64encode(f"api:{store.key}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            store.refused_keys += 1
            self._answer(401, {"errors": [{"message": "user is not logged in"}]})
            return False
        return True

    def _graphql(self, request: dict[str, Any]) -> None:
        named = re.search(r"\b(?:query|mutation)\s+(\w+)", request.get("query", ""))
        name = request.get("operationName") or (named[1] if named else "unnamed")
        store = self.server.store
        with store.lock:
            store.operations[name] = store.operations.get(name, 0) + 1
            operation = OPERATIONS.get(name)
            if operation is None:
                store.unknown_operations.append(name)
                self._answer(200, {"errors": [{"message": f"the stand-in does not know {name}"}]})
                return
            try:
                answer: dict[str, Any] = {"data": operation(store, request.get("variables") or {})}
            except LookupError as error:
                answer = {"errors": [{"message": str(error)}]}
            except (sweeps.NotThere, sweeps.NotNow) as error:
                status = 404 if isinstance(error, sweeps.NotThere) else 400
                self._answer(status, {"errors": [{"message": str(error)}]})
                return
        self._answer(200, answer)

    def _file_stream(self, path: str, request: dict[str, Any]) -> None:
        store = self.server.store
        with store.lock:
            run = store.runs.get(path)
            answer = file_stream.apply(run, request) if run else {"error": f"no run {path}"}
            if run:
                store.seen(run)
        self._answer(200 if run else 404, answer)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
