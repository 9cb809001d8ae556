"""Older tracking code with a changed import: real scripts, and what the backends then have."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.trainer.conftest import Ended, Laptop

Stop = Callable[["subprocess.Popen[str]", str, signal.Signals], Ended]
JSON = {"TRAINYARD_TRACKING": "json"}


def files(folder: Path) -> dict[str, str]:
    kept = folder / "artifacts"
    return {path.relative_to(kept).as_posix(): path.read_text() for path in kept.rglob("*") if path.is_file()}


def test_a_tracker_records_everything(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import pathlib
        from trainyard.compat import ExperimentTracker
        pathlib.Path("plain.txt").write_text("plain")
        pathlib.Path("plots/deep").mkdir(parents=True)
        pathlib.Path("plots/deep/a.txt").write_text("a")
        tracker = ExperimentTracker("federated", run_name="default-name")
        tracker.start_run(tags={"kind": "test"})
        tracker.log_params({"lr": 0.1, "model": {"layers": 2}})
        tracker.set_tag("phase", 1)
        tracker.log_metrics({"loss": 3.0, "acc": 0.5})
        tracker.log_metrics({"loss": 2.0})
        tracker.log_metrics({"loss": 1.0, "acc": 0.6})
        tracker.log_metrics({"loss": 0.5}, step=10)
        tracker.log_metrics({"loss": 0.4})
        tracker.log_artifact("plain.txt")
        tracker.log_artifact("plain.txt", "notes/today")
        tracker.log_artifact("plots")
        tracker.log_artifact("plots", "in")
        tracker.end_run()
        tracker.end_run()
        """,
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")
    run = laptop.json_run("federated")
    assert (run["name"], run["status"]) == ("default-name", "FINISHED")
    assert run["params"] == {"lr": "0.1", "model.layers": "2"}
    assert (run["tags"]["kind"], run["tags"]["phase"]) == ("test", "1")
    assert [(step, value) for step, key, value in run["points"] if key == "loss"] == [
        (0, 3.0),
        (1, 2.0),
        (2, 1.0),
        (10, 0.5),
        (11, 0.4),
    ]
    assert [(step, value) for step, key, value in run["points"] if key == "acc"] == [(0, 0.5), (1, 0.6)]
    assert files(run["folder"]) == {
        "plain.txt": "plain",
        "notes/today/plain.txt": "plain",
        "plots/deep/a.txt": "a",
        "in/plots/deep/a.txt": "a",
    }


def test_runs_of_one_tracker_follow_each_other(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        from trainyard.compat import ExperimentTracker
        tracker = ExperimentTracker("several")
        for name, status in (("first", "FAILED"), ("second", "KILLED")):
            tracker.start_run(name)
            tracker.log_metrics({"loss": 1.0})
            tracker.end_run(status)
        """,
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")
    folders = sorted(laptop.folder.glob(".trainyard/runs/several/*"))
    assert [folder.name.partition("-")[0] for folder in folders] == ["first", "second"]
    for folder, status in zip(folders, ("FAILED", "KILLED"), strict=True):
        assert f'"status": "{status}"' in (folder / "run.json").read_text()
        assert '"step": 0,' in (folder / "metrics.jsonl").read_text(), "each run counts from 0"


def test_an_exception_in_the_block_fails_the_run(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        from trainyard.compat import ExperimentTracker
        with ExperimentTracker("blocks") as tracker:
            tracker.log_metrics({"loss": 1.0})
            raise OverflowError("too large")
        """,
        **JSON,
    )
    assert ended.code == 1
    run = laptop.json_run("blocks")
    assert run["status"] == "FAILED"
    assert "OverflowError: too large" in run["tags"]["trainyard.traceback"]


def test_a_block_around_a_started_run_is_the_same_run(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        from trainyard.compat import ExperimentTracker
        with ExperimentTracker("blocks").start_run("mine") as tracker:
            tracker.log_metrics({"loss": 1.0})
        """,
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")
    run = laptop.json_run("blocks")
    assert (run["name"], run["status"], run["points"]) == ("mine", "FINISHED", [(0, "loss", 1.0)])


def test_sigterm_in_the_block_ends_the_run(laptop: Laptop, stop_at: Stop) -> None:
    process = laptop.start_script(
        """
        import time
        from trainyard.compat import ExperimentTracker
        with ExperimentTracker("blocks"):
            print("begun", flush=True)
            time.sleep(60)
        """,
        **JSON,
    )
    assert stop_at(process, "begun", signal.SIGTERM).code == 143
    run = laptop.json_run("blocks")
    assert (run["status"], run["tags"]["trainyard.end_reason"]) == ("KILLED", "interrupted")


def test_sigterm_is_the_scripts_own_again_when_its_run_has_ended(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import signal
        from trainyard.compat import ExperimentTracker
        with ExperimentTracker("blocks") as tracker:
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
            tracker.end_run()
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        """,
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "t = ExperimentTracker('e')\nt.log_params({})",
            "RuntimeError: ExperimentTracker: no run has begun; call start_run() first",
        ),
        (
            "t = ExperimentTracker('e')\nt.start_run('a')\nt.start_run('b')",
            "RuntimeError: ExperimentTracker: run a has not ended; end it before start_run()",
        ),
        (
            "t = ExperimentTracker('e')\nt.start_run()\nt.end_run()\nt.log_metrics({'loss': 1})",
            "RuntimeError: ExperimentTracker: no run has begun",
        ),
        ("ExperimentTracker('e').end_run('DONE')", "ValueError: end_run: status=DONE: must be one of FINISHED, FAILED"),
        ("Recorder().log_scalar('a', 1)", "RuntimeError: Recorder: no run has begun; call initialize() first"),
        (
            "r = Recorder()\nr.initialize('a')\nr.initialize('b')",
            "RuntimeError: Recorder: run a has not ended; end it before initialize()",
        ),
        (
            "ExperimentTracker(tracking_uri='./mlruns').start_run()",
            "ConfigError: MLFLOW_TRACKING_URI=./mlruns: must be http://HOST:PORT, https://HOST or sqlite:///FILE",
        ),
    ],
)
def test_misuse_is_one_clear_error(script: str, said: str, laptop: Laptop) -> None:
    ended = laptop.script(f"from trainyard.compat import ExperimentTracker, Recorder\n{script}\n", **JSON)
    assert ended.code == 1
    assert said in ended.stderr.splitlines()[-1]


def test_the_given_address_is_used(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import os
        from trainyard.compat import ExperimentTracker
        with ExperimentTracker("there", tracking_uri="sqlite:///other.db") as tracker:
            tracker.log_metrics({"loss": 1.0})
        try:
            ExperimentTracker("there", tracking_uri="./mlruns").start_run()
        except Exception:
            print(os.environ["MLFLOW_TRACKING_URI"])
        """,
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout == "sqlite:///other.db\n", "an address that is refused changes nothing"
    (laptop.folder / "other.db").rename(laptop.folder / "mlflow.db")
    (run,) = laptop.runs("there")
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"loss": 1.0}


def test_a_recorder_records_everything(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import pathlib
        from trainyard.compat import Recorder
        pathlib.Path("model.txt").write_text("weights")
        pathlib.Path("folder").mkdir()
        pathlib.Path("folder/a.txt").write_text("a")
        recorder = Recorder("simulation")
        recorder.initialize("round-robin", config={"clients": 8, "model": {"layers": 2}})
        for value in (3.0, 2.0):
            recorder.log_scalar("loss", value)
        recorder.log_scalar("loss", 1.0, step=7)
        recorder.log_scalar("round", 1)
        recorder.log_info({"lr": 0.1})
        recorder.log_info("server", {"rounds": 3})
        recorder.log_info("phase", "warm up")
        recorder.log_info("phase", "main")
        recorder.log_info("empty", 0)
        recorder.log_info("client 3 left")
        recorder.log_info("client 4 left")
        recorder.add_artifact("model.txt")
        recorder.add_artifact("model.txt", "models/best.txt")
        recorder.add_artifact("folder")
        recorder.add_artifact("folder", "renamed")
        recorder.finish()
        recorder.finish()
        """,
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")
    run = laptop.json_run("simulation")
    assert (run["name"], run["status"]) == ("round-robin", "FINISHED")
    assert run["params"] == {"clients": "8", "model.layers": "2", "lr": "0.1", "server.rounds": "3"}
    tags = {key: value for key, value in run["tags"].items() if not key.startswith(("trainyard.", "mlflow."))}
    assert tags == {"phase": "main", "empty": "0", "note.1": "client 3 left", "note.2": "client 4 left"}
    assert run["points"] == [(0, "loss", 3.0), (1, "loss", 2.0), (7, "loss", 1.0), (0, "round", 1.0)]
    assert files(run["folder"]) == {
        "model.txt": "weights",
        "models/best.txt": "weights",
        "folder/a.txt": "a",
        "renamed/a.txt": "a",
    }


def test_a_recorder_that_did_not_succeed(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        from trainyard.compat import Recorder
        recorder = Recorder()
        recorder.initialize()
        recorder.finish(success=False)
        """,
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert laptop.json_run("default")["status"] == "FAILED"


def test_clients_in_threads_never_share_a_step(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        import sys, threading
        from trainyard.compat import Recorder
        sys.setswitchinterval(1e-6)
        recorder = Recorder("threads")
        recorder.initialize()
        threads = [
            threading.Thread(target=lambda: [recorder.log_scalar("loss", n) for n in range(2000)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.finish()
        """,
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert [step for step, _, _ in laptop.json_run("threads")["points"]] == list(range(8000))


def test_a_process_of_another_rank_records_nothing(laptop: Laptop) -> None:
    ended = laptop.script(
        """
        from trainyard.compat import ExperimentTracker
        with ExperimentTracker("ranks") as tracker:
            tracker.log_metrics({"loss": 1.0})
        """,
        RANK="1",
        **JSON,
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert not (laptop.folder / ".trainyard").exists()
