"""One run recorded by several processes, one after the other: one run everywhere, every step once."""

import json
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from trainyard.errors import SpoolError
from trainyard.spool import carry
from trainyard.spool.folder import attempts
from trainyard.spool.records import Start
from trainyard.tracking.run import NoRun
from trainyard.tracking.session import Session

from tests.kind.wandb_server.server import Server
from tests.unit.trainer.conftest import Ended, Laptop

JOB = {"TRAINYARD_JOB_UID": "8d1f", "TRAINYARD_TRACKING": "json,mlflow"}

LOG = """
import os, signal, sys, time
import trainyard

first, last, end = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with trainyard.run("steps", params={"lr": 0.1}, tags={"end": end}) as run:
    for step in range(first, last + 1):
        run.log_metrics({"loss": 1 / step, "twice": step}, step=step)
        if step % 10 == 0:
            run.log_metrics({"epoch_loss": 10 / step}, step=step // 10)
    print("logged", flush=True)
    if end == "kill":
        time.sleep(float(os.environ.get("WAIT_S", "0")))
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "bug":
        raise RuntimeError("the bug")
    sys.exit(int(end))
"""


def log(laptop: Laptop, first: int, last: int, end: str, **environment: str) -> Ended:
    path = laptop.folder / "log_steps.py"
    path.write_text(LOG)
    return laptop.wait(laptop.python(str(path), str(first), str(last), end, **{**JOB, **environment}))


def points(laptop: Laptop) -> dict[str, Counter[tuple[int, float]]]:
    """Of the one run in MLflow, by metric: (step, value)."""
    (run,) = laptop.runs("steps")
    return {
        key: Counter((each.step, each.value) for each in laptop.client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }


def expected(last: int) -> dict[str, Counter[tuple[int, float]]]:
    steps = range(1, last + 1)
    return {
        "loss": Counter((step, 1 / step) for step in steps),
        "twice": Counter((step, float(step)) for step in steps),
        "epoch_loss": Counter((step // 10, 10 / step) for step in steps if step % 10 == 0),
    }


def assert_whole(laptop: Laptop, last: int) -> None:
    """Every step once, in MLflow and in the JSON folder."""
    assert points(laptop) == expected(last)
    run = laptop.json_run("steps")
    of_json = Counter((key, step, value) for step, key, value in run["points"])
    wanted = Counter((key, *point) for key, those in expected(last).items() for point in those.elements())
    assert of_json == wanted
    assert run["status"] == "FINISHED"


def test_a_preempted_run_goes_on(laptop: Laptop) -> None:
    assert log(laptop, 1, 25, "75").code == 75
    (run,) = laptop.runs("steps")
    assert (run.info.status, run.data.tags["trainyard.end_reason"]) == ("SCHEDULED", "preempted")
    ended = log(laptop, 21, 40, "0")  # from a checkpoint of step 20
    assert ended.code == 0, ended.stderr
    (run,) = laptop.runs("steps")
    assert (run.info.status, run.data.tags["trainyard.end_reason"]) == ("FINISHED", "finished")
    assert (run.data.tags["trainyard.attempt"], run.data.tags["end"]) == ("2", "0")
    assert_whole(laptop, 40)


@pytest.mark.parametrize("end", ["kill", "bug"])
def test_a_run_whose_process_died_goes_on(laptop: Laptop, end: str) -> None:
    assert log(laptop, 1, 25, end, WAIT_S="3").code == (1 if end == "bug" else -signal.SIGKILL)
    assert log(laptop, 21, 40, "0").code == 0
    assert_whole(laptop, 40)
    (run,) = laptop.runs("steps")
    assert run.info.status == "FINISHED"


def test_what_was_not_delivered_comes_first(laptop: Laptop) -> None:
    assert log(laptop, 1, 25, "kill").code == -signal.SIGKILL  # before the shipper had a chance
    assert log(laptop, 11, 32, "kill").code == -signal.SIGKILL
    assert log(laptop, 31, 40, "0").code == 0
    assert_whole(laptop, 40)


@pytest.mark.parametrize("end", ["75", "kill"])
def test_a_run_goes_on_in_wandb(laptop: Laptop, wandb_server: Server, end: str) -> None:
    environment = {
        "TRAINYARD_TRACKING": "wandb,json",
        "WANDB_MODE": "online",
        "WANDB_BASE_URL": wandb_server.store.public_url,
        "WANDB_API_KEY": wandb_server.store.key,
    }
    log(laptop, 1, 25, end, WAIT_S="4", **environment)
    ended = log(laptop, 21, 40, "0", **environment)
    assert ended.code == 0, ended.stderr
    (run,) = wandb_server.store.as_json()["runs"].values()
    rows = Counter(
        (key, row["trainyard/step"], value)
        for row in run["history"]
        for key, value in row.items()
        if key in expected(40)
    )
    assert rows == Counter((key, *point) for key, those in expected(40).items() for point in those.elements())
    assert run["state"] == "finished"


def test_a_lost_state_directory_is_made_up_for_by_what_the_backends_have(laptop: Laptop) -> None:
    elsewhere = {"TRAINYARD_JSON_DIR": str(laptop.folder / "runs")}
    assert log(laptop, 1, 25, "75", **elsewhere).code == 75
    shutil.rmtree(laptop.folder / ".trainyard")
    (metrics,) = (laptop.folder / "runs").glob("steps/*/metrics.jsonl")
    with metrics.open("a") as file:
        file.write('{"step": 26, "time_')  # the pod died while it wrote
    assert log(laptop, 21, 40, "0", **elsewhere).code == 0
    assert points(laptop) == expected(40)
    steps = Counter(point["step"] for line in metrics.open() if "loss" in (point := json.loads(line))["metrics"])
    assert steps == Counter(range(1, 41))


def test_without_a_job_each_process_has_a_run_of_its_own(laptop: Laptop) -> None:
    for _ in range(2):
        assert log(laptop, 1, 3, "0", TRAINYARD_JOB_UID="").code == 0
    assert len(laptop.runs("steps")) == 2


def test_runs_of_one_process_are_told_apart_and_found_again(laptop: Laptop) -> None:
    script = """
        import sys, trainyard
        for trial in range(3):
            with trainyard.run("trials", name=None if trial < 2 else "named") as run:
                run.log_metrics({"trial": trial}, step=1)
    """
    for _ in range(2):
        assert laptop.script(script, **JOB).code == 0
    runs = laptop.runs("trials")
    assert sorted(run.data.metrics["trial"] for run in runs) == [0, 1, 2]
    assert {run.data.tags["trainyard.attempt"] for run in runs} == {"2"}


def test_a_model_that_is_made_again_is_one_version(laptop: Laptop) -> None:
    script = """
        import numpy as np
        import torch
        import trainyard
        torch.manual_seed(0)
        with trainyard.run("models") as run:
            model = torch.nn.Linear(3, 1)
            run.log_model(model, input_example=np.zeros((2, 3), np.float32), register="line", alias="champion", step=7)
    """
    for _ in range(2):
        ended = laptop.script(script, **{**JOB, "TRAINYARD_TRACKING": "mlflow"})
        assert ended.code == 0, ended.stderr
        assert "could not be registered" not in ended.stderr
    (version,) = laptop.client.search_model_versions("name = 'line'")
    assert laptop.client.get_model_version_by_alias("line", "champion").version == version.version


def test_pods_of_one_job_that_do_not_train_together_have_their_own_runs(laptop: Laptop) -> None:
    for index in "01":
        assert log(laptop, 1, 3, "0", JOB_COMPLETION_INDEX=index).code == 0
    assert len(laptop.runs("steps")) == 2


def test_steps_that_go_back_are_kept(laptop: Laptop) -> None:
    """A metric that counts anew in each epoch cannot be told from one that is done again, except at its next epoch."""
    script = """
        import trainyard
        with trainyard.run("steps") as run:
            for epoch in range(3):
                for batch in range(1, 6):
                    run.log_metrics({"batch_loss": 10 * epoch + batch}, step=batch)
    """
    for _ in range(2):
        assert laptop.script(script, **JOB).code == 0
    (run,) = laptop.runs("steps")
    values = Counter(each.value for each in laptop.client.get_metric_history(run.info.run_id, "batch_loss"))
    every = {float(10 * epoch + batch) for epoch in range(3) for batch in range(1, 6)}
    assert set(values) == every
    assert all(values[batch] == 1 for batch in range(1, 6))


def test_a_program_inside_trainyard_run_goes_on_with_it(laptop: Laptop) -> None:
    (laptop.folder / "log_steps.py").write_text(LOG)
    job = {**JOB, "TRAINYARD_TRACKING": "mlflow"}
    for first, last, end in ((1, 25, "75"), (21, 40, "0")):
        ended = laptop.command(
            "run", "--experiment", "steps", "--", "python3", "log_steps.py", str(first), str(last), end, **job
        )
        assert ended.code == int(end), ended.stderr
    assert points(laptop) == expected(40)
    (run,) = laptop.runs("steps")
    assert run.info.status == "FINISHED"


def test_two_processes_cannot_record_one_run_at_once(laptop: Laptop) -> None:
    path = laptop.folder / "log_steps.py"
    path.write_text(LOG)
    first = laptop.python(str(path), "1", "5", "kill", **JOB, WAIT_S="300")
    try:
        assert first.stdout is not None and first.stdout.readline() == "logged\n"
        second = log(laptop, 1, 5, "0")
    finally:
        first.kill()
        first.communicate()
    assert second.code == 1
    assert "another process records run" in second.stderr


def start(attempt: int = 1) -> Start:
    return Start(
        uid="0123456789abcdef" * 2,
        name="carried",
        experiment="steps",
        tags={},
        time_ms=1,
        backends=("json",),
        attempt=attempt,
        continues=True,
    )


@pytest.mark.parametrize("sent", [False, True], ids=["nothing delivered", "delivered in part"])
def test_a_packed_record_is_delivered_from_another_disk(laptop: Laptop, tmp_path: Path, sent: bool) -> None:
    """What a checkpoint in S3 brings along: the pod's disk is lost, and nothing recorded before it was packed."""
    told: list[str] = []
    # Either nobody delivers, or the thread of this process does while the record is packed.
    environment = replace(laptop.environment, shipper="thread" if sent else "sidecar")
    session = Session(environment, start(), say=told.append)
    run = session.run
    run.log_metrics({"loss": 1.0}, step=1)
    run.log_bytes("notes.txt", b"kept")
    if sent:
        run.sync()
    record = carry.pack(run)
    assert record is not None
    run.log_metrics({"loss": 2.0}, step=2)  # after the checkpoint
    run.end("SCHEDULED")

    elsewhere = tmp_path / "elsewhere"
    carry.unpack(elsewhere / "spool", run.uid, record)
    carry.unpack(elsewhere / "spool", run.uid, b"no second one: what is there is kept")
    (folder,) = attempts(elsewhere / "spool", run.uid)
    assert not folder.writer_alive()
    ended = laptop.command("spool", "ship", str(elsewhere))
    assert ended.code == 0, ended.stderr
    (found,) = elsewhere.glob("runs/steps/*/run.json")
    content = json.loads(found.read_text())
    assert content["tags"]["trainyard.end_reason"] == "lost"
    assert (found.parent / "artifacts/notes.txt").read_bytes() == b"kept"
    steps = [json.loads(line)["step"] for line in (found.parent / "metrics.jsonl").open()]
    # What was delivered into the folder of a disk is lost with it.
    assert steps[:1] == [1] or (sent and not steps)


def test_a_broken_packed_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="cannot be read"):
        carry.unpack(tmp_path, "0" * 32, b"no archive")
    assert attempts(tmp_path, "0" * 32) == []


def test_a_process_that_records_nothing_packs_nothing() -> None:
    assert carry.pack(NoRun("rank 1")) is None
