"""Sweeps of W&B: `trainyard sweep run` with the real `wandb agent`, against a server on this machine that remembers what it was asked."""

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kind.wandb_server.server import Server
from tests.kind.wandb_server.store import ENTITY
from tests.unit.trainer.conftest import Ended, Laptop

_PATIENCE_S = 100.0
_PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
import trainyard

x, steps, pause_s = float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
saved = Path(os.environ["TRAINYARD_STATE_DIR"], "saved-" + os.environ["TRAINYARD_TRIAL"])
first = int(saved.read_text()) + 1 if saved.exists() else 0
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
with trainyard.run("trials") as run:
    for step in range(first, steps):
        run.log_metrics({"loss": (x - 0.7) ** 2 + 1 / (step + 1)}, step=step)
        time.sleep(pause_s)
        saved.write_text(str(step))
        if told:
            raise SystemExit(75)
"""


@dataclass
class Search:
    """A sweep on a laptop, or on several: each worker has a state directory of its own, unless it is said otherwise."""

    laptop: Laptop
    server: Server
    name: str = "tiny"
    environment: dict[str, str] = field(default_factory=dict)
    workers: list["subprocess.Popen[str]"] = field(default_factory=list)

    def write(self, method: str, x: Mapping[str, Any], *, steps: int = 3, pause_s: float = 0.0, **changes: Any) -> None:
        (self.laptop.folder / "trial.py").write_text(_PROGRAM)
        sweep = {
            "name": self.name,
            "backend": "wandb",
            "method": method,
            "metric": {"name": "loss", "goal": "minimize"},
            "parameters": {"x": dict(x)},
            "program": ["python", "trial.py", "{x}", str(steps), str(pause_s)],
            "experiment": "searches",
            "entity": ENTITY,
            "project": "sweeps",
            **changes,
        }
        (self.laptop.folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))

    def start(self, *arguments: str, index: int = 0, **environment: str) -> "subprocess.Popen[str]":
        """A worker."""
        told = {
            "WANDB_BASE_URL": self.server.store.public_url,
            "WANDB_API_KEY": self.server.store.key,
            "MLFLOW_TRACKING_URI": self.laptop.uri,
            "TRAINYARD_TRACKING": "mlflow,wandb",
            "TRAINYARD_STATE_DIR": str(self.laptop.folder / f"state-{index}"),
            "JOB_COMPLETION_INDEX": str(index),
            "MPLCONFIGDIR": "/tmp/matplotlib",
            **self.environment,
            **environment,
        }
        command = ("-m", "trainyard", "sweep", "run", *(arguments or ("sweep.yaml",)))
        worker = self.laptop.python(*command, **told)
        self.workers.append(worker)
        return worker

    def run(self, *arguments: str) -> Ended:
        """One worker, to its end."""
        return self.end(self.start(*arguments))

    def end(self, worker: "subprocess.Popen[str]") -> Ended:
        """Its end; what it said so far if that does not come."""
        late = threading.Timer(_PATIENCE_S, worker.kill)
        late.start()
        ended = self.laptop.wait(worker)
        late.cancel()
        assert ended.code != -signal.SIGKILL, f"not ended: {ended.stderr[-20000:]}; {self.state['runs']}"
        return ended

    @property
    def state(self) -> dict[str, Any]:
        return self.server.store.as_json()

    @property
    def sweep(self) -> dict[str, Any]:
        """The one at the server."""
        (sweep,) = self.state["sweeps"].values()
        return dict(sweep)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Of the sweep, in the order in which they were handed out."""
        found = self.state["runs"].values()
        return [run for run in found if run["sweep"] is not None]

    def do(self, what: str, **asked: Any) -> None:
        """What a person does at the server."""
        if what == "sweep":
            (asked["sweep"],) = self.state["sweeps"]
        url = f"{self.server.store.public_url}/standin/{what}"
        urllib.request.urlopen(urllib.request.Request(url, data=json.dumps(asked).encode())).close()

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {_PATIENCE_S:.0f} s: {what}; {self.state['runs']}"
            assert self.workers[-1].poll() is None, self.workers[-1].communicate()
            time.sleep(0.1)

    def wait_for_steps(self, count: int) -> None:
        self.wait_for(f"{count} steps", lambda: any(len(run["history"]) >= count for run in self.runs))


@pytest.fixture
def search(laptop: Laptop, wandb_server: Server) -> Iterator[Search]:
    # So that no two workers make the database at once.
    laptop.client.create_experiment("searches", artifact_location=str(laptop.folder / "artifacts"))
    search = Search(laptop, wandb_server)
    yield search
    for worker in search.workers:
        if worker.poll() is None:
            worker.kill()
            worker.communicate()


def steps_of(run: Mapping[str, Any]) -> list[int]:
    return [row["trainyard/step"] for row in run["history"]]


def processes(search: Search, text: str) -> list[str]:
    """Of this search, for others run beside it: those whose command line has the text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == search.laptop.folder:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile
            continue
    return [command for command in found if text in command]


def test_a_grid_is_searched_by_two_workers_and_reported(search: Search) -> None:
    search.write("grid", {"values": [0.5, 0.7, 0.9]})
    other = search.start(index=1)
    first = search.run()
    assert first.code == 0, first.stderr
    followed = search.end(other)
    assert followed.code == 0, followed.stderr

    assert sorted(run["parameters"]["x"] for run in search.runs) == [0.5, 0.7, 0.9]
    assert len({agent for run in search.runs for agent in run["agents"]}) == 2
    assert [(run["state"], steps_of(run)) for run in search.runs] == [("finished", [0, 1, 2])] * 3
    assert [run["config"]["x"]["value"] for run in search.runs] == [run["parameters"]["x"] for run in search.runs]
    assert search.sweep["state"] == "FINISHED"
    (parent,) = search.laptop.runs("searches")
    assert (parent.info.status, parent.data.params["best/x"]) == ("FINISHED", "0.7")
    (path,) = search.state["sweeps"]
    assert parent.data.tags["trainyard.wandb_sweep"] == path
    trials = search.laptop.runs("trials")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.data.tags["trainyard.trial"] for run in trials} == {run["name"] for run in search.runs}
    assert {run.data.tags["trainyard.sweep_id"] for run in trials} == {search.sweep["name"]}
    (best,) = (run for run in trials if run.data.tags.get("trainyard.best") == "true")
    assert best.data.tags["trainyard.trial"] == next(
        run["name"] for run in search.runs if run["parameters"]["x"] == 0.7
    )

    again = search.run()
    assert again.code == 0, again.stderr
    assert len(search.state["sweeps"]) == 1
    told = {"WANDB_BASE_URL": search.server.store.public_url, "WANDB_API_KEY": search.server.store.key}
    table = search.laptop.command(
        "sweep", "export", "sweep.yaml", **told, MLFLOW_TRACKING_URI=search.laptop.uri, TRAINYARD_STATE_DIR="elsewhere"
    )
    assert table.code == 0, table.stderr
    assert all(run["name"] in table.stdout for run in search.runs)
    assert all(run.info.run_id in table.stdout for run in trials)


def test_an_interrupted_trial_goes_on_as_the_same_run(search: Search) -> None:
    search.write("random", {"min": 0.0, "max": 1.0}, steps=150, pause_s=0.1, trials=1)
    worker = search.start()
    search.wait_for_steps(5)
    worker.send_signal(signal.SIGTERM)
    interrupted = search.end(worker)
    assert interrupted.code == 75, interrupted.stderr
    (run,) = search.runs
    assert run["state"] == "preempted"
    assert len(steps_of(run)) < 150
    (parent,) = search.laptop.runs("searches")
    assert parent.info.status == "SCHEDULED"
    assert not processes(search, "trial.py")

    ended = search.run()
    assert ended.code == 0, ended.stderr
    (run,) = search.runs
    assert (run["state"], len(run["agents"]), run["rewritten_lines"]) == ("finished", 2, 0)
    assert steps_of(run) == list(range(150))
    (trial,) = search.laptop.runs("trials")
    assert (trial.info.status, trial.data.tags["trainyard.trial"]) == ("FINISHED", run["name"])
    history = search.laptop.client.get_metric_history(trial.info.run_id, "loss")
    assert [point.step for point in history] == list(range(150))
    (parent,) = search.laptop.runs("searches")
    assert parent.info.status == "FINISHED"


def test_nothing_outlives_a_worker_that_is_killed(search: Search) -> None:
    search.write("random", {"min": 0.0, "max": 1.0}, steps=10_000, pause_s=0.1, trials=1)
    worker = search.start()
    search.wait_for_steps(2)
    assert processes(search, "trial.py")
    assert processes(search, "wandb agent")
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 30
    while left := [
        *processes(search, "trial.py"),
        *processes(search, "sweep trial"),
        *processes(search, "wandb agent"),
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert [run["state"] for run in search.runs] == ["preempted"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"WANDB_API_KEY": "wrong-" + "0" * 40}, "WANDB_API_KEY must be a key of that server"),
        ({"WANDB_API_KEY": ""}, "WANDB_API_KEY is not set"),
        ({"WANDB_MODE": "offline"}, "WANDB_MODE=offline: W&B's server leads the sweep"),
    ],
)
def test_what_cannot_work_is_said_at_once(search: Search, changes: dict[str, str], says: str) -> None:
    search.write("random", {"min": 0.0, "max": 1.0}, trials=1)
    search.environment.update(changes)
    ended = search.run()
    assert ended.code == 42
    assert says in ended.stderr
    assert not search.state["sweeps"]


def test_a_worker_on_which_every_trial_fails_gives_up(search: Search) -> None:
    search.write("random", {"min": 0.0, "max": 1.0}, trials=9, max_failed=2, program=["sh", "-c", "exit 7", "{x}"])
    ended = search.run()
    assert ended.code == 1
    last = search.runs[-1]["name"]
    assert "2 trials in a row have failed here (max_failed)" in ended.stderr
    assert f"run {last} " in ended.stderr and "exit code 7" in ended.stderr
    assert len(search.runs) == 2
    (parent,) = search.laptop.runs("searches")
    assert parent.info.status == "FAILED"


@pytest.mark.parametrize(
    ("done", "says"), [("stop", "was stopped by"), ("cancel", "was cancelled by"), ("delete", "somebody deleted it")]
)
def test_a_sweep_that_a_person_ends_ends_soon(search: Search, done: str, says: str) -> None:
    search.write("random", {"min": 0.0, "max": 1.0}, steps=10_000, pause_s=0.1, trials=5)
    worker = search.start()
    search.wait_for_steps(3)
    search.do("sweep", do=done)
    began = time.monotonic()
    ended = search.end(worker)
    assert (ended.code, says in ended.stderr) == (42, True), ended.stderr
    assert time.monotonic() - began < 30
    (trial,) = search.laptop.runs("trials")
    assert (trial.info.status, trial.data.tags["trainyard.end_reason"]) == ("KILLED", "stopped")
    (parent,) = search.laptop.runs("searches")
    assert (parent.info.status, parent.data.tags["trainyard.end_reason"]) == ("KILLED", "stopped")
    assert not processes(search, "trial.py")


def test_a_search_near_the_best_outlives_an_outage_and_a_pause(search: Search) -> None:
    search.write("bayes", {"min": 0.0, "max": 1.0}, steps=20, pause_s=0.1, trials=3)
    worker = search.start()
    search.wait_for_steps(3)
    search.do("outage", status=503)
    time.sleep(20)  # as long as the server is away
    search.do("outage", status=0)
    search.wait_for("a second trial", lambda: len(search.runs) == 2)
    search.do("sweep", do="pause")
    search.wait_for("the end of the second trial", lambda: search.runs[1]["state"] == "finished")
    search.do("sweep", do="resume")
    ended = search.end(worker)
    assert ended.code == 0, ended.stderr
    assert [(run["state"], steps_of(run)) for run in search.runs] == [("finished", list(range(20)))] * 3


def test_a_sweep_of_the_wandb_command_is_joined_and_early_termination_is_pruning(search: Search) -> None:
    early = {"type": "hyperband", "min_iter": 2, "eta": 2}
    search.write("grid", {"values": [0.7, 0.0]}, steps=120, pause_s=0.1, early_terminate=early)
    made = yaml.safe_load((search.laptop.folder / "sweep.yaml").read_text())
    made["parameters"]["x"] = {"values": [0.7, 0.0]}
    made["program"] = "trial.py"
    made["command"] = ["trainyard", "sweep", "trial", "${args_json}"]
    made["program"] = "python trial.py {x} 120 0.1"
    for ours in ("backend", "experiment", "entity", "project"):
        del made[ours]
    (search.laptop.folder / "theirs.yaml").write_text(yaml.safe_dump(made))
    told = {"WANDB_BASE_URL": search.server.store.public_url, "WANDB_API_KEY": search.server.store.key}
    here = {f"WANDB_{name}DIR": str(search.laptop.folder) for name in ("", "CACHE_", "CONFIG_", "DATA_")}
    command = ("-m", "wandb", "sweep", "--entity", ENTITY, "--project", "theirs", "theirs.yaml")
    created = search.laptop.wait(search.laptop.python(*command, **told, **here, WANDB_ERROR_REPORTING="false"))
    assert created.code == 0, created.stderr
    (path,) = search.state["sweeps"]

    ended = search.run("--join", path)
    assert ended.code == 0, ended.stderr
    good, bad = search.runs
    assert (good["state"], len(good["history"])) == ("finished", 120)
    assert (bad["state"], bad["config"]["trainyard"]["value"]["tags"]["trainyard.end_reason"]) == ("finished", "pruned")
    assert len(bad["history"]) < 120
    (parent,) = search.laptop.runs("theirs")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["trainyard.end_reason"] for run in search.laptop.runs("trials")} == {"finished", "pruned"}
