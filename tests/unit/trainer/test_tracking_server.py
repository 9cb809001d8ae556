"""Servers that are not there, not ready or not MLflow: real sockets, real HTTP."""

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from trainyard.errors import TrackingError
from trainyard.interruption import Interruption
from trainyard.tracking.server import wait_for_server, without_password

from tests.unit.trainer.conftest import Ended, Laptop

Answer = tuple[int, str, str]
HTML = (200, "text/html", "<html>a login page</html>")
READY = (200, "application/json", json.dumps({"experiments": []}))


@contextmanager
def serving(answers: list[Answer]) -> Iterator[str]:
    """A server that gives these answers in turn, the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, kind, text = left.pop(0) if len(left) > 1 else left[0]
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait(uri: str, wait_s: float) -> list[str]:
    """What is said while waiting."""
    said: list[str] = []
    wait_for_server(uri, wait_s=wait_s, interruption=Interruption(), say=said.append, say_every_s=2.5)
    return said


def test_nobody_listens(closed_port: int) -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError, match=rf"127.0.0.1:{closed_port} could not be reached: tried for 3 s .*refused"):
        wait(f"http://127.0.0.1:{closed_port}", wait_s=3)
    assert 3 <= time.monotonic() - start < 30


def test_an_unknown_host() -> None:
    with pytest.raises(
        TrackingError, match=r"http://no-such-host.invalid:5000 could not be reached: tried for \d s .*resol"
    ):
        wait("http://no-such-host.invalid:5000", wait_s=0)


def test_a_server_without_its_database_is_waited_for() -> None:
    with serving([(503, "application/json", "{}"), (502, "text/html", "bad gateway"), READY]) as uri:
        said = wait(uri, wait_s=60)
    assert said == [f"waiting for MLflow at {uri}: 0 of 60 s, it answers 503 Service Unavailable"]


def test_waiting_is_told_again_and_again() -> None:
    with serving([(503, "application/json", "{}")] * 5 + [READY]) as uri:
        said = wait(uri, wait_s=60)
    assert 1 < len(said) < 5, "not at every try"


def test_the_last_status_is_told_when_time_is_up() -> None:
    with serving([(503, "application/json", "{}")]) as uri, pytest.raises(TrackingError, match="it answers 503"):
        wait(uri, wait_s=1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "text/plain", "You are not authenticated"), "refuses: it answers 401 .*You are not authenticated"),
        ((403, "text/plain", "Invalid Host header"), "refuses: it answers 403 .*Invalid Host header"),
        ((404, "text/html", "<html>"), "refuses: it answers 404"),
        (HTML, "is not an MLflow server: it answers text/html"),
    ],
)
def test_an_answer_that_waiting_does_not_change_ends_at_once(answer: Answer, said: str) -> None:
    with serving([answer]) as uri, pytest.raises(TrackingError, match=said):
        wait(uri, wait_s=300)


def test_the_command_ends_with_1_and_one_message(laptop: Laptop, closed_port: int) -> None:
    uri = f"http://user:s3cret@127.0.0.1:{closed_port}"
    ended = laptop.train("digits", MLFLOW_TRACKING_URI=uri, TRAINYARD_TRACKING_WAIT_S="1")
    assert ended.code == 1
    assert ended.stderr.startswith(
        f"trainyard: MLflow at http://user:***@127.0.0.1:{closed_port} could not be reached: tried for"
    )
    assert "s3cret" not in ended.stderr + ended.stdout
    assert "Connection refused" in ended.stdout
    assert len(ended.stderr.splitlines()) == 1


def test_sigterm_ends_the_waiting(
    laptop: Laptop,
    closed_port: int,
    stop_at: Callable[["subprocess.Popen[str]", str, signal.Signals], Ended],
) -> None:
    process = laptop.start("digits", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{closed_port}")
    ended = stop_at(process, f"waiting for MLflow at http://127.0.0.1:{closed_port}: 0 of 300 s", signal.SIGTERM)
    assert ended.code == 143


def test_a_password_is_not_shown() -> None:
    assert without_password("http://me:pw@host:5000/x") == "http://me:***@host:5000/x"
    assert without_password("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
