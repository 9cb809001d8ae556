"""The port-forward that keeps MLflow reachable on 127.0.0.1 until scripts/down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import FrameType

from local_cluster import probes, state
from local_cluster.errors import UserError
from local_cluster.settings import NAMESPACE, RELEASE, REPOSITORY, Settings
from local_cluster.tools import Tools

ANSWER_S = 60.0
RESTART_S = 1.0


def url(settings: Settings) -> str:
    """Where MLflow is to be reached from this machine."""
    return f"http://127.0.0.1:{settings.port}"


def check_port(settings: Settings) -> None:
    """Raises UserError if the port is taken by anything but our own port-forward."""
    record = state.read_json(settings.home / "forward.json")
    ours = record.get("port") == settings.port and state.is_running(record["process"])
    if not ours and probes.port_taken(settings.port):
        raise UserError(
            f"Port {settings.port} on 127.0.0.1 is in use, and MLflow was to be reached there.\n"
            f"Stop what listens on it, or choose another: TRAINYARD_PORT={settings.port + 1} scripts/up"
        )


def ensure(settings: Settings, tools: Tools) -> None:
    """A port-forward in the background that answers. Raises UserError if it does not."""
    path = settings.home / "forward.json"
    record = state.read_json(path)
    if record and (record["port"] != settings.port or not state.is_running(record["process"])):
        stop(settings)
        record = {}
    if not record:
        command = [
            sys.executable,
            "-m",
            "local_cluster.forward",
            tools.kubectl,
            str(settings.kubeconfig),
            settings.context,
        ]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts")}
        process = state.start_detached([*command, str(settings.port)], settings.home / "forward.log", environment)
        state.write_json(path, {"port": settings.port, "process": process})
    deadline = time.monotonic() + ANSWER_S
    while not _answers(url(settings)):
        if time.monotonic() > deadline:
            raise UserError(
                f"MLflow does not answer at {url(settings)} within {ANSWER_S:.0f} s; see {settings.home / 'forward.log'}"
            )
        time.sleep(0.5)


def stop(settings: Settings) -> None:
    """End the port-forward, if there is one."""
    path = settings.home / "forward.json"
    if record := state.read_json(path):
        state.stop(record["process"])
        path.unlink()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _keep(kubectl: str, kubeconfig: str, context: str, port: str) -> None:
    """Run kubectl port-forward again whenever it ends: it does when the pod behind it goes."""
    command = [kubectl, "--kubeconfig", kubeconfig, "--context", context, "--namespace", NAMESPACE]
    command += ["port-forward", "--address=127.0.0.1", f"service/{RELEASE}-mlflow", f"{port}:5000"]
    child: subprocess.Popen[bytes] | None = None

    def end(_signal: int, _frame: FrameType | None) -> None:
        if child:
            child.terminate()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        child = subprocess.Popen(command)
        child.wait()
        time.sleep(RESTART_S)


if __name__ == "__main__":
    _keep(*sys.argv[1:])
