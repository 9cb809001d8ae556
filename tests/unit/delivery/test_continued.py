"""One run, every step once, however often the process that records it is stopped, and whoever delivers meanwhile is killed."""

import json
import os
import random
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

from trainyard.spool.folder import SpoolFolder

from tests.unit.delivery.ambush import somewhere
from tests.unit.delivery.continued import STEPS, values
from tests.unit.delivery.processes import Site, end_of
from tests.unit.delivery.servers import StoredRun, Tracking
from tests.unit.delivery.verdict import judge_folder

ROUNDS = int(os.environ.get("TRAINYARD_ROUNDS") or 1)
_JOBS = 6
_DISTURBANCES = 4
_WRITING = ("spool/writer.py", "spool/folder.py", "tracking/spooled_run.py", "tracking/session.py")
_SHIPPING = (
    "shipping/continuation.py",
    "shipping/cursor.py",
    "shipping/delivery.py",
    "shipping/json_folder.py",
    "shipping/mlflow/backend.py",
    "shipping/mlflow/rest.py",
    "shipping/shipper.py",
)


def _live(site: Site, experiment: str, job: str, tracking: str, seed: int, ends: list[int]) -> None:
    """Pods of one Job, one after the other, until one ends well."""
    chance = random.Random(seed)
    for number in range(_DISTURBANCES + 1):
        last = number == _DISTURBANCES
        ambush = [somewhere(chance, _WRITING).dump()] if not last and chance.random() < 0.3 else []
        process = site.start(
            "-m", "tests.unit.delivery.continued", experiment, job, str(site.journal / job), *ambush,
            TRAINYARD_JOB_UID=job, TRAINYARD_TRACKING=tracking,
        )  # fmt: skip
        if not last:
            try:
                process.wait(chance.uniform(0.3, 1.3))
            except subprocess.TimeoutExpired:
                process.send_signal(chance.choice((signal.SIGKILL, signal.SIGTERM)))
        ends.append(end_of(process))


def test_a_run_goes_on_whatever_stops_it(tracking: Tracking, tmp_path: Path, seed: int) -> None:
    for number in range(ROUNDS):
        chance = random.Random(seed + number)
        experiment = f"continued-{seed + number}"
        with Site(tmp_path / str(number), tracking.uri) as site:
            ends: dict[str, list[int]] = {f"job-{index}": [] for index in range(_JOBS)}
            lives = [
                threading.Thread(
                    target=_live,
                    args=(
                        site,
                        experiment,
                        job,
                        chance.choice(("mlflow", "json,mlflow")),
                        chance.randrange(10**9),
                        own,
                    ),
                )
                for job, own in ends.items()
            ]
            for life in lives:
                life.start()
            killed = 0
            while any(life.is_alive() for life in lives):
                ambush = chance.choice((None, somewhere(chance, _SHIPPING)))
                killed += site.kill(site.shipper(follow=True, ambush=ambush), chance.uniform(0, 3))
            sidecar = site.sidecar()
            site.stop(sidecar)
            _judge(tracking, site, experiment, ends)
        print(f"round {number}, seed {seed + number}: ends {ends}; {killed} shippers met an ambush", flush=True)


def _judge(tracking: Tracking, site: Site, experiment: str, ends: dict[str, list[int]]) -> None:
    runs = list(tracking.runs(experiment).values())
    assert sorted(run.tags["trainyard.job_uid"] for run in runs) == sorted(ends), site.last_words()
    for run in runs:
        job = run.tags["trainyard.job_uid"]
        # The last one found its run finished, if the one before had come so far.
        assert ends[job][-1] == 0, f"{job}: {ends[job]}\n{site.last_words()}"
        assert (run.status, run.tags["trainyard.end_reason"]) == ("FINISHED", "finished")
        _judge_points(run)
        _judge_json(site, run)
    for folder in (site.state / "spool").iterdir():
        if not folder.name.startswith("."):
            judge_folder(SpoolFolder(folder))


def _expected() -> "Counter[tuple[str, int, float]]":
    return Counter((key, at, value) for step in range(1, STEPS + 1) for (key, at), value in values(step).items())


def _judge_points(run: StoredRun) -> None:
    stored = Counter((row.key, row.step, row.value) for row in run.points.elements())
    missing, extra = _expected() - stored, stored - _expected()
    assert not missing and not extra, f"{run.tags['trainyard.job_uid']}: missing {missing}, too many {extra}"


def _judge_json(site: Site, run: StoredRun) -> None:
    for path in site.state.glob(f"runs/*/*-{run.uid[:8]}/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        stored = Counter((key, line["step"], value) for line in lines for key, value in line["metrics"].items())
        assert stored == _expected(), f"{path}: missing {_expected() - stored}, too many {stored - _expected()}"
