"""The image with Ray, and the example in it: a real Ray cluster in one container."""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.images.image_containers import Container, Sandbox, docker, wait_until

EXAMPLES = "/opt/trainyard/examples/ray"
PROGRAMS = Path(__file__).parent / "ray_programs"
VOLUME = "/var/tmp"
"""Anybody may write there, so that a volume there is everybody's, too."""
STATE = f"{VOLUME}/state"
TRIALS, EPOCHS, FEWEST_EPOCHS = 8, 27, 3
END_TIMEOUT_S = 400.0
METRIC = "validation/loss"
HEALTH = """
import urllib.request
for port, path in ((52365, "/api/healthz"), (8265, "/api/version")):
    print(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).status)
"""

SPACE = """
from ray import tune
from trainyard.integrations.ray.space import constants, parameters
space = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "model": {"width": tune.choice([16, 32]), "layers": tune.randint(1, 4), "dropout": tune.quniform(0, 0.5, 0.1)},
    "batch_size": tune.grid_search([32, 64]),
    "steps": tune.qlograndint(8, 64, 8),
    "epochs": 10,
    "drawn": tune.sample_from(lambda _: 1),
}
for name, parameter in parameters(space).items():
    print(name, *(getattr(parameter, key, "") for key in ("values", "low", "high", "integer", "log", "step")), sep="|")
print(constants(space))
"""
SPACE_IN_REPORTS = """\
lr||0.0001|0.1|False|True|None
model.width|(16, 32)|||||
model.layers||1|3|True|False|None
model.dropout||0|0.5|False|False|0.1
batch_size|(32, 64)|||||
steps||8|64|True|True|8
{'epochs': 10}
"""


@dataclass(frozen=True)
class RecordedRun:
    """A run in the JSON folder."""

    status: str
    tags: Mapping[str, str]
    steps: list[int]
    """Of the objective, in the order of the file."""
    artifacts: Path

    @property
    def is_parent(self) -> bool:
        return self.tags.get("trainyard.sweep_role") == "parent"


def start(sandbox: Sandbox, program: str, *arguments: str, volume: str | None = None) -> Container:
    """A program in the image, as its pod would run it."""
    options = [
        *("--entrypoint=python", "--cpus=2", "--memory=3g", "--shm-size=256m"),
        *(f"--volume={volume or sandbox.volume()}:{VOLUME}", f"--volume={PROGRAMS}:/programs:ro"),
        *(f"--env=PYTHONPATH={EXAMPLES}", f"--env=TRAINYARD_STATE_DIR={STATE}", "--env=TRAINYARD_TRACKING=json"),
    ]
    return sandbox.run("ray", program, *arguments, options=options)


def end(container: Container) -> int:
    """Its exit code; a sweep takes its time."""
    wait_until(lambda: not container.running(), f"end of {container.name}", END_TIMEOUT_S)
    return container.exit_code()


def recorded(container: Container, folder: Path) -> list[RecordedRun]:
    """All runs, also of a container that has ended."""
    if docker("cp", f"{container.name}:{STATE}/runs", str(folder), check=False).returncode:
        return []
    runs = []
    for path in sorted(folder.glob("runs/*/*/run.json")):
        about: dict[str, Any] = json.loads(path.read_text())
        rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        steps = [row["step"] for row in rows if METRIC in json.dumps(row)]
        runs.append(RecordedRun(about["status"], about["tags"], steps, path.parent / "artifacts"))
    return runs


def check_complete(runs: list[RecordedRun]) -> None:
    """One run for the sweep and one for each trial, with every step once."""
    (parent,) = [run for run in runs if run.is_parent]
    trials = [run for run in runs if not run.is_parent]
    assert parent.status == "FINISHED"
    assert len({run.tags["trainyard.trial"] for run in trials}) == len(trials) == TRIALS
    assert {run.tags["trainyard.sweep_id"] for run in runs} == {parent.tags["trainyard.sweep_id"]}
    for run in trials:
        ended = (run.status, run.tags["trainyard.end_reason"], len(run.steps))
        assert run.steps == list(range(1, len(run.steps) + 1)), ended
        if ended != ("FINISHED", "finished", EPOCHS):
            assert ended[:2] == ("KILLED", "pruned") and FEWEST_EPOCHS <= len(run.steps) < EPOCHS, ended
    with (parent.artifacts / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    counts = Counter(run.status for run in trials)
    assert Counter(row["state"] for row in table) == {"finished": counts["FINISHED"], "pruned": counts["KILLED"]}
    (best,) = [row for row in table if row["best"] == "True"]
    finished = [float(row[f"metrics.{METRIC}"]) for row in table if row["state"] == "finished"]
    assert float(best[f"metrics.{METRIC}"]) == min(finished)
    assert (parent.artifacts / "plots/learning_curves.png").is_file()


def test_eight_trials_with_asha(sandbox: Sandbox, tmp_path: Path) -> None:
    container = start(sandbox, f"{EXAMPLES}/asha.py")
    assert end(container) == 0
    runs = recorded(container, tmp_path)
    check_complete(runs)
    assert {run.status for run in runs if not run.is_parent} == {"FINISHED", "KILLED"}, "ASHA has ended nothing early"


def test_a_sweep_that_is_interrupted_goes_on(sandbox: Sandbox, tmp_path: Path) -> None:
    container = start(sandbox, "/programs/slow.py")
    looks = iter(range(10**6))

    def in_the_middle() -> bool:
        assert container.running(), container.logs()
        runs = recorded(container, make(tmp_path / str(next(looks))))
        return any(2 <= len(run.steps) < EPOCHS and run.status == "RUNNING" for run in runs)

    wait_until(in_the_middle, "a trial in the middle")
    code, _ = container.stop()
    assert code == 75, container.logs()
    statuses = {run.tags.get("trainyard.trial"): run.status for run in recorded(container, make(tmp_path / "left"))}
    assert "SCHEDULED" in {statuses.pop(None)} and "SCHEDULED" in statuses.values()

    container.start()
    assert end(container) == 0, container.logs()
    runs = recorded(container, make(tmp_path / "complete"))
    check_complete(runs)
    continued = {run.tags["trainyard.trial"] for run in runs if not run.is_parent and run.tags.get("trainyard.attempt")}
    assert {trial for trial, status in statuses.items() if status == "SCHEDULED"} <= continued


def test_trials_that_fail_and_a_search_that_is_another(sandbox: Sandbox, tmp_path: Path) -> None:
    volume = sandbox.volume()
    broken = start(sandbox, "/programs/broken.py", "--trials", "2", volume=volume)
    assert end(broken) == 1
    assert {run.status for run in recorded(broken, tmp_path)} == {"FAILED"}
    assert "2 of 2 trials failed" in broken.logs() and "no digits here for" in broken.logs()
    other = start(sandbox, f"{EXAMPLES}/asha.py", volume=volume)
    assert end(other) == 42
    assert f"{STATE}/ray/digits-asha: holds a sweep of another search" in other.logs()


def test_kuberay_finds_what_it_asks_for(sandbox: Sandbox) -> None:
    """The head as KubeRay starts it: its probes ask the agent of the dashboard, and it gives jobs to the dashboard."""
    options = ["--entrypoint=ray", "--shm-size=256m", "--env=RAY_AUTH_MODE=disabled"]
    head = ["start", "--head", "--block", "--num-cpus=0", "--dashboard-host=0.0.0.0", "--object-store-memory=80000000"]
    container = sandbox.run("ray", *head, options=options)
    wait_until(
        lambda: container.execute("python", "-c", HEALTH).stdout.split() == ["200", "200"],
        "the dashboard and its agent",
    )


def test_a_search_space_in_the_words_of_reports(sandbox: Sandbox) -> None:
    container = sandbox.run("ray", "-W", "ignore", "-c", SPACE, options=["--entrypoint=python"])
    assert container.exit_code() == 0, container.logs()
    assert container.logs() == SPACE_IN_REPORTS


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
