"""A laptop in a temporary directory: the real command as a process, and the real MLflow database it writes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trainyard
from mlflow import MlflowClient
from mlflow.entities import Run
from trainyard import interruption
from trainyard.environment import JobEnvironment

from tests.kind.wandb_server.server import Server

# The command is the package that these tests import, wherever the working directory is.
_SOURCE = str(Path(trainyard.__file__).resolve().parents[1])
_OURS = ("MLFLOW_", "TRAINYARD_", "WANDB_", "JOB_COMPLETION_INDEX", "WORLD_SIZE", "RANK")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Laptop:
    """A working directory without a tracking server."""

    folder: Path

    def train(self, *arguments: str, **environment: str) -> Ended:
        """`trainyard train ARGUMENTS` with the given variables, to its end."""
        return self.wait(self.start(*arguments, **environment))

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """The same, not waited for."""
        return self.python("-m", "trainyard", "train", *arguments, **environment)

    def command(self, *arguments: str, **environment: str) -> Ended:
        """`trainyard ARGUMENTS`, to its end."""
        return self.wait(self.python("-m", "trainyard", *arguments, **environment))

    def script(self, text: str, **environment: str) -> Ended:
        """A user's own script, to its end."""
        return self.wait(self.start_script(text, **environment))

    def start_script(self, text: str, **environment: str) -> "subprocess.Popen[str]":
        """The same, not waited for."""
        path = self.folder / "my_train.py"
        path.write_text(textwrap.dedent(text))
        return self.python(str(path), **environment)

    def wait(self, process: "subprocess.Popen[str]") -> Ended:
        """Its end."""
        stdout, stderr = process.communicate(timeout=300)
        return Ended(process.returncode, stdout, stderr)

    def python(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """A Python process in the working directory, which can import trainyard."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**clean, "PYTHONPATH": os.pathsep.join([_SOURCE, clean.get("PYTHONPATH", "")]), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json_run(self, experiment: str = "*") -> dict[str, Any]:
        """The one run that the JSON backend wrote, with its points as `points`."""
        (folder,) = self.folder.glob(f".trainyard/runs/{experiment}/*")
        run: dict[str, Any] = json.loads((folder / "run.json").read_text())
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        points = [(line["step"], key, value) for line in lines for key, value in line["metrics"].items()]
        return {**run, "folder": folder, "points": points}

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def environment(self) -> JobEnvironment:
        """What a process on this laptop is told."""
        return JobEnvironment.read({"MLFLOW_TRACKING_URI": self.uri, "TRAINYARD_STATE_DIR": str(self.folder / "state")})

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self, experiment: str = "digits") -> Sequence[Run]:
        """Runs of the experiment, the newest first."""
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None, f"no experiment {experiment}"
        return list(self.client.search_runs([found.experiment_id]))


@pytest.fixture(autouse=True)
def a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For what is called in this process: signals that one test has sent are no matter of the next one."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(interruption, "_of_this_process", None)
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def wandb_server() -> Iterator[Server]:
    """A stand-in for W&B's server that the real client talks to."""
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    assert server.store.unknown_operations == []
    server.shutdown()
    server.server_close()


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)


@dataclass(frozen=True)
class TrainedOnce:
    """One finished training, shared by the tests that only look at it."""

    laptop: Laptop
    ended: Ended
    run: Run


SETTINGS = ("digits", "--set", "epochs=3", "--set", "tracking.variant=smoke")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedOnce:
    laptop = Laptop(tmp_path_factory.mktemp("laptop"))
    ended = laptop.train(
        *SETTINGS,
        TRAINYARD_JOB_UID="0c1f-uid",
        TRAINYARD_JOB_NAME="train-digits",
        TRAINYARD_IMAGE="trainyard/trainer:0.1.0",
        TRAINYARD_GIT_COMMIT="4f2a",
        TRAINYARD_GIT_BRANCH="main",
        TRAINYARD_GIT_DIRTY="false",
    )
    assert ended.code == 0, ended.stderr
    (run,) = laptop.runs()
    return TrainedOnce(laptop, ended, run)


@pytest.fixture
def stop_at() -> Callable[["subprocess.Popen[str]", str, signal.Signals], Ended]:
    """Send a signal when a line with the given text is printed, and wait for the end."""

    def stop(process: "subprocess.Popen[str]", text: str, number: signal.Signals) -> Ended:
        assert process.stdout is not None
        seen = []
        deadline = time.monotonic() + 240
        for line in process.stdout:
            seen.append(line)
            if text in line:
                process.send_signal(number)
                break
            assert time.monotonic() < deadline, seen
        stdout, stderr = process.communicate(timeout=120)
        return Ended(process.returncode, "".join(seen) + stdout, stderr)

    return stop
