"""`trainyard doctor`, on servers and disks that fail in one way each. The good path runs on a real server in tests/kind."""

import fcntl
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from trainyard.cli import main
from trainyard.doctor import mlflow_http, state
from trainyard.doctor.examination import Check, Doubt, Examination
from trainyard.interruption import Interruption

from tests.kind.wandb_server.server import Server as WandbServer
from tests.kind.wandb_server.store import KEY

Answer = tuple[int, str, bytes]
SERVER_CHECKS = ["host", "connection", "answer", "credentials", "database", "run", "metric", "artifact", "clean-up"]


@dataclass
class Mlflow:
    """An MLflow server of one run. `fail` may answer a request in its place."""

    fail: Callable[[str, str], Answer | None] = lambda _method, _path: None
    ahead_s: float = 0.0
    location: str = ""
    artifact_uri: str = "mlflow-artifacts:/1/r/artifacts"
    uri: str = ""
    points: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: int = 0
    deleted_runs: list[str] = field(default_factory=list)

    def handle(self, method: str, path: str, body: bytes) -> Answer:
        """As MLflow does."""
        if path.startswith("/api/2.0/mlflow-artifacts/artifacts/"):
            if method == "PUT":
                self.files[path] = body
                self.uploads += 1
            return 200, "application/octet-stream", self.files.pop(path) if method == "DELETE" else self.files[path]
        given = json.loads(body) if body else {}
        match path.removeprefix("/api/2.0/mlflow/"):
            case "experiments/search":
                content: Any = {"experiments": []}
            case "experiments/get-by-name":
                content = {"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}}
            case "runs/create":
                content = {"run": {"info": {"run_id": "r", "experiment_id": "1", "artifact_uri": self.artifact_uri}}}
            case "runs/log-batch":
                self.points += given["metrics"]
                content = {}
            case "metrics/get-history":
                content = {"metrics": self.points}
            case "runs/update":
                content = {}
            case "runs/delete":
                self.deleted_runs.append(given["run_id"])
                content = {}
        return 200, "application/json", json.dumps(content).encode()


@contextmanager
def serving(mlflow: Mlflow) -> Iterator[Mlflow]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, content = mlflow.fail(self.command, parts.path) or mlflow.handle(
                self.command, parts.path, body
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", mlflow.location)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - names of http.server

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + mlflow.ahead_s, usegmt=True)

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mlflow.uri = f"http://127.0.0.1:{server.server_port}"
    try:
        yield mlflow
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Examined:
    """What the command printed and returned."""

    code: int
    text: str

    @property
    def verdicts(self) -> dict[str, str]:
        """Of each check."""
        found = re.findall(r"^(ok|FAILED|warning|skipped) +(\w[\w -]*?)  +", self.text, re.MULTILINE)
        return {name: verdict for verdict, name in found}

    def names(self, verdict: str) -> list[str]:
        """Checks with that verdict."""
        return [name for name, found in self.verdicts.items() if found == verdict]

    def about(self, name: str) -> str:
        """The lines of a check, of a failed one with what to do."""
        found = re.search(rf"^\w+ +{re.escape(name)}  +(.*(?:\n +-> .*)?)", self.text, re.MULTILINE)
        assert found, f"no check {name} in\n{self.text}"
        return found[1]


@pytest.fixture
def doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Examined]]:
    for name in list(os.environ):
        if (
            name.startswith(("MLFLOW_", "TRAINYARD_", "WANDB_"))
            or name.lower().endswith("_proxy")
            or name in ("RANK", "KUBERNETES_SERVICE_HOST")
        ):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def examine(**environment: str) -> Examined:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = main(["doctor"])
        return Examined(code, capsys.readouterr().out)

    yield examine
    for number, handler in handlers.items():
        signal.signal(number, handler)


def failing(
    status: int, content: str, *, at: str = "", kind: str = "text/plain"
) -> Callable[[str, str], Answer | None]:
    """Requests of that method or path are answered so; all of them without `at`."""
    return lambda method, path: (status, kind, content.encode()) if at == method or path.endswith(at) else None


def test_all_is_well(doctor: Callable[..., Examined]) -> None:
    with serving(Mlflow()) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri)
    assert examined.code == 0
    assert set(examined.verdicts) == {
        *("settings", "state directory", "disk space", "file locks", "clock"),
        *(f"mlflow {name}" for name in SERVER_CHECKS),
    }
    assert examined.names("ok") == list(examined.verdicts)
    assert len(mlflow.points) == 1
    assert mlflow.uploads == 1
    assert (mlflow.files, mlflow.deleted_runs) == ({}, ["r"]), "nothing may be left"


@pytest.mark.parametrize(
    ("mlflow", "check", "said"),
    [
        (
            Mlflow(failing(401, "not authenticated")),
            "credentials",
            "answers 401 Unauthorized: not authenticated .*set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or",
        ),
        (
            Mlflow(failing(403, "Invalid Host header - possible DNS rebinding attack detected")),
            "credentials",
            r"--allowed-hosts \(MLFLOW_SERVER_ALLOWED_HOSTS\): add 127.0.0.1:\d+",
        ),
        (Mlflow(failing(403, "go away")), "credentials", "403 Forbidden: go away .*permission EDIT"),
        (Mlflow(failing(200, "<html>", kind="text/html")), "database", "answers text/html .*correct MLFLOW_TRACKING_U"),
        (Mlflow(failing(404, "nothing here")), "database", "404 Not Found: nothing here .*correct MLFLOW_TRACKING_URI"),
        (Mlflow(failing(503, "no database")), "database", "503 Service Unavailable: no database .*log of the MLflow"),
        (
            Mlflow(failing(403, '{"message": "read only"}', at="runs/create")),
            "run",
            "403 Forbidden: read only .*permission EDIT",
        ),
        (
            Mlflow(failing(500, "disk full", at="PUT")),
            "artifact",
            "500 Internal Server Error: disk full .*store does not",
        ),
        (Mlflow(failing(200, "other bytes", at="/artifacts/doctor.bin")), "artifact", "11 other ones read back"),
        (
            Mlflow(failing(200, '{"metrics": []}', at="get-history", kind="application/json")),
            "metric",
            r"read back: \[\]",
        ),
    ],
)
def test_a_failing_server_is_explained(mlflow: Mlflow, check: str, said: str, doctor: Callable[..., Examined]) -> None:
    with serving(mlflow):
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri)
    assert examined.code == 1
    assert examined.names("FAILED") == [f"mlflow {check}"]
    assert re.search(said, " ".join(examined.about(f"mlflow {check}").split()))
    independent = SERVER_CHECKS[-3:] if check in ("metric", "artifact") else []
    after = SERVER_CHECKS[SERVER_CHECKS.index(check) + 1 :]
    assert examined.names("skipped") == [f"mlflow {name}" for name in after if name not in independent]
    assert mlflow.deleted_runs == (["r"] if independent else [])


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "pass-word"},
            "correct MLFLOW_TRACKING_USERNAME",
        ),
        ({"MLFLOW_TRACKING_USERNAME": "u"}, "only MLFLOW_TRACKING_USERNAME is set"),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken-t0ken"}, "correct MLFLOW_TRACKING_TOKEN"),
    ],
)
def test_refused_credentials_are_named_and_not_shown(
    environment: dict[str, str], said: str, doctor: Callable[..., Examined]
) -> None:
    with serving(Mlflow(failing(401, "wrong: pass-word t0ken-t0ken"))) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri, **environment)
    assert said in examined.about("mlflow credentials")
    assert not any(secret in examined.text for secret in environment.values() if len(secret) > 1)


def test_a_password_in_the_address_is_used_and_not_shown(doctor: Callable[..., Examined]) -> None:
    with serving(Mlflow(failing(401, "no: s3cr@t and s3cr%40t"))) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri.replace("//", "//mallory:s3cr%40t@"))
    assert "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in examined.about("mlflow credentials")
    assert not re.search("s3cr|mallory", examined.text)


def test_an_address_that_moved(doctor: Callable[..., Examined]) -> None:
    with serving(Mlflow(failing(200, "<html>login"))) as login:
        moved = Mlflow(failing(302, ""), location=f"{login.uri}/login?state=secret")
        with serving(moved):
            examined = doctor(MLFLOW_TRACKING_URI=moved.uri)
    assert examined.names("FAILED") == ["mlflow answer"]
    assert f"sends us on to {login.uri}/login (" in examined.about("mlflow answer")


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_nobody_listens(doctor: Callable[..., Examined], closed_port: int) -> None:
    examined = doctor(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{closed_port}")
    assert examined.code == 1
    assert examined.names("FAILED") == ["mlflow connection"]
    assert "Connection refused" in examined.about("mlflow connection")
    assert "start the server, or correct the port" in examined.about("mlflow connection")
    assert examined.verdicts["clock"] == "skipped"


def test_nobody_listens_in_a_pod(doctor: Callable[..., Examined], closed_port: int) -> None:
    examined = doctor(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{closed_port}", KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert "in a pod this is the pod itself" in examined.about("mlflow connection")


def test_an_unknown_host(doctor: Callable[..., Examined]) -> None:
    examined = doctor(MLFLOW_TRACKING_URI="http://no-such-host.invalid:5000")
    assert examined.names("FAILED") == ["mlflow host"]
    assert "no-such-host.invalid has no address" in examined.about("mlflow host")


def test_a_proxy_in_between_is_what_is_looked_at(doctor: Callable[..., Examined], closed_port: int) -> None:
    examined = doctor(
        MLFLOW_TRACKING_URI="http://mlflow.example:5000", HTTP_PROXY=f"http://me:proxy-pw@127.0.0.1:{closed_port}"
    )
    assert examined.names("FAILED") == ["mlflow connection"]
    assert f"proxy http://***@127.0.0.1:{closed_port}" in examined.about("mlflow connection")
    assert "NO_PROXY" in examined.about("mlflow connection")
    assert "proxy-pw" not in examined.text


def test_https_where_http_is_spoken(doctor: Callable[..., Examined]) -> None:
    with serving(Mlflow()) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri.replace("http:", "https:"))
    assert examined.names("FAILED") == ["mlflow answer"]
    assert "compare http or https" in examined.about("mlflow answer")


def test_a_server_that_never_answers(doctor: Callable[..., Examined], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_http, "_TIMEOUT_S", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        examined = doctor(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert examined.names("FAILED") == ["mlflow answer"]
    assert "timed out" in examined.about("mlflow answer").lower()


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(-100, r"1(00|01|02) s ahead of"), (100, r"(98|99|100) s behind"), (20, "agrees")]
)
def test_a_wrong_clock_is_a_warning(ahead_s: float, said: str, doctor: Callable[..., Examined]) -> None:
    with serving(Mlflow(ahead_s=ahead_s)) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri)
    assert re.search(said, examined.about("clock"))
    assert examined.verdicts["clock"] == ("ok" if ahead_s == 20 else "warning")
    assert examined.code == 0


def test_a_run_that_cannot_be_deleted_is_a_warning(doctor: Callable[..., Examined]) -> None:
    with serving(Mlflow(failing(405, "never", at="DELETE"))) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri)
    assert examined.names("warning") == ["mlflow clean-up"]
    assert examined.code == 0
    assert mlflow.deleted_runs == ["r"], "the run goes even if its artifact stays"


def test_artifacts_that_would_stay_on_this_machine(doctor: Callable[..., Examined], tmp_path: Path) -> None:
    with serving(Mlflow(artifact_uri=f"{tmp_path}/of-the-server")) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri.replace("127.0.0.1", "127.0.0.2"))
    assert examined.names("FAILED") == ["mlflow artifact"]
    assert "--serve-artifacts" in examined.about("mlflow artifact")
    assert not (tmp_path / "of-the-server").exists()


def test_an_interrupted_doctor_cleans_up(doctor: Callable[..., Examined]) -> None:
    def stop(_method: str, path: str) -> Answer | None:
        if path.endswith("log-batch"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return None

    with serving(Mlflow(stop)) as mlflow:
        examined = doctor(MLFLOW_TRACKING_URI=mlflow.uri)
    assert examined.code == 143
    assert "mlflow artifact" not in examined.verdicts
    assert mlflow.deleted_runs == ["r"]


def test_a_database_file(doctor: Callable[..., Examined], tmp_path: Path) -> None:
    examined = doctor()
    assert examined.code == 0
    assert set(examined.names("ok")) == set(examined.verdicts)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("trainyard-doctor")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert run.info.lifecycle_stage == "deleted"
    assert run.data.metrics == {"doctor": 0.1}
    assert [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()] == []


def test_a_database_file_that_is_none(doctor: Callable[..., Examined], tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("notes, not a database")
    examined = doctor()
    assert examined.code == 1
    assert examined.names("FAILED") == ["mlflow file"]
    assert "file is not a database" in examined.about("mlflow file")
    assert examined.names("skipped") == [f"mlflow {name}" for name in SERVER_CHECKS[-4:]]


def test_a_database_file_in_no_directory(doctor: Callable[..., Examined], tmp_path: Path) -> None:
    examined = doctor(MLFLOW_TRACKING_URI="sqlite:///missing/mlflow.db")
    assert f"{tmp_path}/missing is no directory" in examined.about("mlflow file")
    assert not (tmp_path / "missing").exists()


def test_every_wrong_setting_is_told_and_nothing_is_touched(doctor: Callable[..., Examined], tmp_path: Path) -> None:
    examined = doctor(
        MLFLOW_TRACKING_URI="http://host:5000x",
        TRAINYARD_TRACKING="json,wandb",
        TRAINYARD_SPOOL_BYTES="1",
        TRAINYARD_SHIP_GRACE_S="soon",
        WANDB_MODE="sometimes",
    )
    assert examined.code == 42
    for problem in ("MLFLOW_TRACKING_URI", "TRAINYARD_SPOOL_BYTES", "TRAINYARD_SHIP_GRACE_S", "WANDB_MODE"):
        assert re.search(rf"^FAILED +settings +{problem}[= ]", examined.text, re.MULTILINE), problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://me:s3/cret@h:5000", "write / as %2F"),
        ("http://me:s3#cret@h", "write / as %2F"),
        ("ftp://me:s3cret@h", "must be http://HOST:PORT"),
        ("http://[me:s3cret@h", "must be http://HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_read_shows_no_password(uri: str, said: str, doctor: Callable[..., Examined]) -> None:
    examined = doctor(MLFLOW_TRACKING_URI=uri)
    assert examined.code == 42
    assert "MLFLOW_TRACKING_URI=" in examined.about("settings")
    assert said in examined.about("settings")
    assert not re.search(r"s3\b|cret|me:", examined.text)


def test_a_state_directory_that_cannot_be_made(doctor: Callable[..., Examined], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    examined = doctor(TRAINYARD_STATE_DIR="file/state", TRAINYARD_TRACKING="json")
    assert examined.code == 1
    assert examined.verdicts["state directory"] == "FAILED"
    assert "set TRAINYARD_STATE_DIR" in examined.about("state directory")
    assert examined.names("skipped") == ["disk space", "file locks"]


def test_a_disk_smaller_than_the_bound_is_a_warning(doctor: Callable[..., Examined]) -> None:
    examined = doctor(TRAINYARD_SPOOL_BYTES=str(10**18), TRAINYARD_TRACKING="json")
    assert examined.names("warning") == ["disk space"]
    assert examined.code == 0


def test_a_disk_without_room_for_one_segment(doctor: Callable[..., Examined], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SEGMENT_BYTES", 10**18)
    examined = doctor(TRAINYARD_TRACKING="json")
    assert examined.names("FAILED") == ["disk space"]


def test_locks_that_keep_nobody_out(doctor: Callable[..., Examined], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)
    examined = doctor(TRAINYARD_TRACKING="json")
    assert examined.names("FAILED") == ["file locks"]


def test_only_chosen_backends_are_looked_at_and_nothing_is_left(
    doctor: Callable[..., Examined], closed_port: int, tmp_path: Path
) -> None:
    examined = doctor(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{closed_port}", TRAINYARD_TRACKING="json")
    assert examined.code == 0
    assert list(examined.verdicts) == ["settings", "state directory", "disk space", "file locks", "json folder"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_json_folder_that_cannot_be_written(doctor: Callable[..., Examined], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    examined = doctor(TRAINYARD_JSON_DIR="file", TRAINYARD_TRACKING="json")
    assert examined.names("FAILED") == ["json folder"]
    assert "set TRAINYARD_JSON_DIR" in examined.about("json folder")


@pytest.fixture
def wandb_uri() -> Iterator[str]:
    server = WandbServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("key", "failed", "said"),
    [(KEY, [], ""), ("0" * 40, ["wandb server"], "refuses the key"), ("", ["wandb key"], "WANDB_API_KEY is not set")],
)
def test_wandb_online(key: str, failed: list[str], said: str, doctor: Callable[..., Examined], wandb_uri: str) -> None:
    examined = doctor(TRAINYARD_TRACKING="wandb", WANDB_MODE="online", WANDB_BASE_URL=wandb_uri, WANDB_API_KEY=key)
    assert examined.names("FAILED") == failed
    assert examined.code == (1 if failed else 0)
    assert said in examined.about(failed[0] if failed else "wandb server")
    assert not key or key not in examined.text
    assert (examined.verdicts["wandb server"] == "skipped") == (key == "")


def test_wandb_at_an_address_of_something_else(doctor: Callable[..., Examined]) -> None:
    answer = failing(200, '{"errors": ["no such query"]}', kind="application/json")
    with serving(Mlflow(answer)) as other:
        examined = doctor(
            TRAINYARD_TRACKING="wandb", WANDB_MODE="online", WANDB_BASE_URL=other.uri, WANDB_API_KEY="k" * 40
        )
    assert examined.names("FAILED") == ["wandb server"]
    assert "does not answer as W&B does" in examined.about("wandb server")


def test_wandb_offline_asks_no_server(doctor: Callable[..., Examined]) -> None:
    examined = doctor(TRAINYARD_TRACKING="wandb", WANDB_BASE_URL="http://127.0.0.1:9")
    assert examined.code == 0
    assert "wandb server" not in examined.verdicts
    assert "wandb sync" in examined.about("wandb mode")


def test_checks_that_hang_break_or_doubt() -> None:
    def broken() -> str:
        raise ZeroDivisionError("never seen before")

    def doubtful() -> str:
        raise Doubt("hm", "think")

    said: list[str] = []
    examination = Examination(say=said.append, interruption=Interruption())
    began = time.monotonic()
    examination.run(
        [
            Check(name="hangs", look=lambda: str(threading.Event().wait(60)), limit_s=0.3),
            Check(name="breaks", look=broken),
            Check(name="doubts", look=doubtful),
            Check(name="after doubt", look=lambda: "fine", needs=["doubts"]),
            Check(name="after", look=broken, needs=["hangs"]),
            Check(name="after that", look=broken, needs=["after"]),
        ]
    )
    assert time.monotonic() - began < 10
    assert examination.failed == ["hangs", "breaks"]
    assert [line.split()[0] for line in said] == [
        "FAILED",
        "->",
        "FAILED",
        "->",
        "warning",
        "->",
        "ok",
        "skipped",
        "skipped",
    ]
    assert "no result within 0 s" in said[0]
    assert "ZeroDivisionError: never seen before" in said[2]
