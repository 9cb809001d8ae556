"""`trainyard run -- PROGRAM`: programs that know nothing of us."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.trainer.conftest import Ended, Laptop
from tests.unit.trainer.stub_mlflow import StubMlflow, serving


@pytest.fixture
def stub() -> Iterator[StubMlflow]:
    with serving(StubMlflow()) as server:
        yield server


def run(laptop: Laptop, *program: str, **environment: str) -> Ended:
    return laptop.command("run", "--experiment", "e", "--", *program, **environment)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("code", "exit_code", "status", "reason"),
    [
        ("print('hello')", 0, "FINISHED", "finished"),
        ("raise SystemExit(7)", 7, "FAILED", "failed"),
        ("raise SystemExit(75)", 75, "SCHEDULED", "preempted"),
        ("raise SystemExit(42)", 42, "FAILED", "failed"),
        ("import os; os.kill(os.getpid(), 9)", 137, "FAILED", "failed"),
    ],
)
def test_the_programs_end_is_the_runs_end(
    stub: StubMlflow, laptop: Laptop, code: str, exit_code: int, status: str, reason: str
) -> None:
    ended = run(laptop, *python(code), MLFLOW_TRACKING_URI=stub.uri)
    assert ended.code == exit_code, ended.stderr
    (found,) = stub.runs.values()
    assert found["status"] == status
    assert stub.tags["trainyard.end_reason"] == reason
    assert stub.tags["trainyard.exit_code"] == str(exit_code)
    assert ended.stdout == ("hello\n" if exit_code == 0 else "")


def test_the_program_is_told_which_run_it_is(stub: StubMlflow, laptop: Laptop) -> None:
    code = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith(('MLFLOW', 'TRAINYARD'))}))"
    ended = run(laptop, *python(code), MLFLOW_TRACKING_URI=stub.uri)
    told = json.loads(ended.stdout)
    (found,) = stub.runs.values()
    assert told["MLFLOW_RUN_ID"] == found["info"]["run_id"]
    assert told["MLFLOW_TRACKING_URI"] == stub.uri
    assert told["TRAINYARD_RUN_UID"] == found["uid"]
    assert told["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "10"


def test_plain_mlflow_calls_go_into_the_run(laptop: Laptop) -> None:
    (laptop.folder / "plain.py").write_text(
        "import mlflow\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_param('lr', 0.1)\n"
        "    for step in range(3): mlflow.log_metric('loss', step, step=step)\n"
        "raise SystemExit(3)\n"
    )
    ended = run(laptop, sys.executable, "plain.py")
    assert ended.code == 3
    (found,) = laptop.runs("e")
    assert found.info.run_name.startswith("plain_")
    assert found.data.params == {"lr": "0.1"}
    assert found.data.metrics == {"loss": 2.0}
    assert found.info.status == "FAILED", "MLflow's own block said FINISHED, but the program failed"
    assert found.data.tags["trainyard.end_reason"] == "failed"


def test_our_own_run_inside_joins(laptop: Laptop) -> None:
    ended = run(
        laptop,
        *python(
            "import trainyard\nwith trainyard.run() as run: run.log_metrics({'loss': 1}, step=1)\nraise SystemExit(4)"
        ),
    )
    assert ended.code == 4, ended.stderr
    (found,) = laptop.runs("e")
    assert found.data.metrics == {"loss": 1.0}
    assert found.info.status == "FAILED"


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        ("signal.SIG_DFL", 143),
        ("lambda *_: sys.exit(0)", 143),
        ("lambda *_: sys.exit(75)", 75),
    ],
)
def test_sigterm_is_passed_on_and_the_end_is_truthful(
    stub: StubMlflow, laptop: Laptop, handler: str, code: int
) -> None:
    program = f"import signal, sys, time; signal.signal(signal.SIGTERM, {handler}); print('ready', flush=True); time.sleep(60)"
    process = laptop.python("-m", "trainyard", "run", "--", *python(program), MLFLOW_TRACKING_URI=stub.uri)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    ended = laptop.wait(process)
    assert ended.code == code
    assert next(iter(stub.runs.values()))["status"] == ("SCHEDULED" if code == 75 else "KILLED")


def test_a_program_that_does_not_exist_is_named(stub: StubMlflow, laptop: Laptop) -> None:
    ended = run(laptop, "no-such-program", MLFLOW_TRACKING_URI=stub.uri)
    assert ended.code == 42
    assert "no-such-program cannot be run: No such file or directory" in ended.stderr
    assert next(iter(stub.runs.values()))["status"] == "FAILED"


def test_without_a_program_the_usage_is_shown(laptop: Laptop) -> None:
    ended = laptop.command("run")
    assert ended.code == 42
    assert "which program? for example: trainyard run -- python train.py" in ended.stderr


def test_beginning_waits_for_the_server_and_gives_up_in_time(laptop: Laptop) -> None:
    ended = run(laptop, "true", MLFLOW_TRACKING_URI="http://127.0.0.1:9", TRAINYARD_TRACKING_WAIT_S="1")
    assert ended.code == 1
    assert "MLflow at http://127.0.0.1:9 cannot be reached: Connection refused; tried for" in ended.stderr
    assert "TRAINYARD_TRACKING_WAIT_S" in ended.stderr


def test_a_killed_wrapper_is_found_lost(stub: StubMlflow, laptop: Laptop) -> None:
    program = python("import time; print('ready', flush=True); time.sleep(60)")
    process = laptop.python(
        "-m", "trainyard", "run", "--", *program, MLFLOW_TRACKING_URI=stub.uri, TRAINYARD_SHIPPER="sidecar"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    assert laptop.command("spool", "ship").code == 0
    assert next(iter(stub.runs.values()))["status"] == "FAILED"
    assert stub.tags["trainyard.end_reason"] == "lost"
    kill_orphan(laptop.folder)


def kill_orphan(folder: Path) -> None:
    """The program outlives its killed parent; in a container it would not."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and entry.name != str(os.getpid()):
            try:
                if (entry / "cwd").readlink() == folder:
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


def test_the_end_waits_for_the_record(stub: StubMlflow, laptop: Laptop) -> None:
    stub.fail = lambda path, body: (
        (503, "text/plain", "down") if path.endswith("runs/update") and body.get("end_time") else None
    )
    process: subprocess.Popen[str] = laptop.python("-m", "trainyard", "run", "--", "true", MLFLOW_TRACKING_URI=stub.uri)
    while stub.calls["runs/update"] == 0:
        time.sleep(0.05)
    assert process.poll() is None
    stub.fail = lambda _path, _body: None
    assert laptop.wait(process).code == 0
    assert next(iter(stub.runs.values()))["status"] == "FINISHED"
