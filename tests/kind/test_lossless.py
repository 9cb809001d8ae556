"""No point lost, none twice, and a truthful end: every fault is injected into Jobs that are logging.

One storm for all: while the tracking server is away for a minute, processes are killed, run out of memory, end, and fill their
disk; then the network of one is cut, its shipper killed, and Postgres. The tests look at what came of each Job.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from local_cluster.settings import RELEASE

from tests.kind import wandb_standin
from tests.kind.platform import Platform, metrics, params, tags
from tests.kind.programs.log_steps import FLOOD_STEPS, FLOOD_VALUES
from tests.kind.training_pods import EXPERIMENT, TrainingPod, mount_programs, start, start_steps

OUTAGE_S = 60
Storm = dict[str, TrainingPod]


@pytest.fixture(scope="module", autouse=True)
def programs(platform: Platform) -> Iterator[None]:
    """What the Jobs run."""
    mount_programs(platform)
    yield
    platform.kubectl("delete", "configmap", "programs")


@pytest.fixture(scope="module")
def storm(platform: Platform) -> Iterator[Storm]:
    """The Jobs, by what happened to them; all have ended."""
    wandb_standin.deploy(platform)
    tmpfs = {"emptyDir": {"medium": "Memory", "sizeLimit": "2560Ki"}}
    three = {"TRAINYARD_TRACKING": "json,mlflow,wandb", **wandb_standin.CLIENT}
    pods = {
        "survivor": start_steps(platform, "survivor", "end"),
        "ends": start_steps(platform, "ends", "end"),
        "raises": start_steps(platform, "raises", "raise"),
        "killed": start_steps(platform, "killed", "end"),
        "out-of-memory": start_steps(platform, "out-of-memory", "allocate", memory="160Mi"),
        "full-disk": start_steps(platform, "full-disk", "flood", state=tmpfs),
        "three-backends": start_steps(platform, "three-backends", "end", env=three),
    }
    for pod in pods.values():
        pod.wait_for_step(20)
    _server_outage(platform, pods)
    _network_cut(pods["survivor"])
    pods["survivor"].kill("spool ship --follow")
    _postgres_killed(platform)
    pods["survivor"].wait_for_step(pods["survivor"].printed()[-1] + 200)
    pods["survivor"].meet_its_fate()
    for pod in pods.values():
        pod.end()
    yield pods
    platform.kubectl("delete", "job", *pods)
    wandb_standin.remove(platform)


def _server_outage(platform: Platform, pods: Storm) -> None:
    platform.kubectl("scale", "deployment", f"{RELEASE}-mlflow", "--replicas=0")
    selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=mlflow"
    platform.wait_for("no MLflow pod", lambda: not platform.objects("pods", selector))
    began = time.monotonic()
    pods["killed"].wait_for_step(pods["killed"].printed()[-1] + 100)
    pods["killed"].kill("log_steps.py")
    for name in ("ends", "raises", "out-of-memory", "full-disk", "three-backends"):
        pods[name].meet_its_fate()
    assert "No space left on device" in platform.wait_for(
        "the full disk to be told", lambda: _told(pods["full-disk"], "training waits"), OUTAGE_S
    )
    time.sleep(max(0.0, began + OUTAGE_S - time.monotonic()))
    platform.kubectl("scale", "deployment", f"{RELEASE}-mlflow", "--replicas=1")
    platform.wait_ready()


def _told(pod: TrainingPod, text: str) -> str:
    return next((line for line in pod.log().splitlines() if text in line), "")


def _network_cut(pod: TrainingPod) -> None:
    pod.platform.wait_for("the survivor to catch up", lambda: len(pod.rows("value")) > 1000)
    pod.network("-I")
    try:
        time.sleep(3)  # what was under way arrives
        before, printed = len(pod.rows("value")), pod.printed()[-1]
        pod.wait_for_step(printed + 500)
        assert len(pod.rows("value")) == before, "the network was not cut"
    finally:
        pod.network("-D")


def _postgres_killed(platform: Platform) -> None:
    selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=postgres"
    (old,) = [pod["metadata"]["uid"] for pod in platform.objects("pods", selector)]
    platform.kubectl("delete", "pod", "--selector", selector, "--grace-period=0", "--force")
    platform.wait_for(
        "a new Postgres pod", lambda: old not in {pod["metadata"]["uid"] for pod in platform.objects("pods", selector)}
    )
    platform.wait_ready()


def assert_nothing_lost(pod: TrainingPod) -> None:
    """Every step that the program printed is there once, with its value; at most the one after it, too."""
    printed = pod.printed()
    assert len(printed) > 100
    for key, factor in (("value", 1), ("twice", 2)):
        rows = pod.rows(key)
        assert rows == [(step, factor * step) for step in range(len(rows))], f"{key} of {pod.job}"
        assert len(printed) <= len(rows) <= len(printed) + 1


def test_a_run_survives_server_network_shipper_and_database(storm: Storm) -> None:
    pod = storm["survivor"]
    assert pod.end() == "Complete"
    assert pod.outcome == ("FINISHED", "finished")
    assert_nothing_lost(pod)
    (shipper,) = pod.pod["status"]["initContainerStatuses"]
    assert shipper["restartCount"] == 1, "it was killed once"


def test_a_run_that_ends_during_an_outage_is_finished_when_it_is_delivered(storm: Storm) -> None:
    pod = storm["ends"]
    assert pod.end() == "Complete"
    assert pod.outcome == ("FINISHED", "finished")
    assert_nothing_lost(pod)
    assert "training has ended; waiting for the rest of its record" in pod.log()


def test_a_bug_during_an_outage_is_a_failed_run_with_its_traceback(platform: Platform, storm: Storm) -> None:
    pod = storm["raises"]
    assert pod.end() == "Failed"
    assert pod.outcome == ("FAILED", "failed")
    assert_nothing_lost(pod)
    assert "RuntimeError: a bug in the training code" in tags(pod.run)["trainyard.traceback"]
    assert b"RuntimeError" in platform.download(pod.run["info"]["run_id"], "traceback.txt")


def test_sigkill_loses_nothing_and_the_run_is_lost_not_running(storm: Storm) -> None:
    pod = storm["killed"]
    assert pod.end() == "Failed"
    assert pod.exit_reason()[0] == 137
    assert pod.outcome == ("FAILED", "lost")
    assert_nothing_lost(pod)


def test_out_of_memory_loses_nothing_and_the_run_is_lost_not_running(storm: Storm) -> None:
    pod = storm["out-of-memory"]
    assert pod.end() == "Failed"
    assert pod.exit_reason() == (137, "OOMKilled")
    assert pod.outcome == ("FAILED", "lost")
    assert_nothing_lost(pod)


def test_a_full_state_volume_makes_training_wait_and_loses_nothing(platform: Platform, storm: Storm) -> None:
    pod = storm["full-disk"]
    assert pod.end() == "Complete"
    assert pod.outcome == ("FINISHED", "finished")
    assert_nothing_lost(pod)
    run_id = pod.run["info"]["run_id"]
    statement = (
        "SELECT count(*), count(DISTINCT (key, step)), sum(value) FROM metrics "
        f"WHERE run_uuid = '{run_id}' AND key LIKE 'flood%'"
    )
    ((rows, distinct, total),) = platform.sql(statement)
    assert (int(rows), int(distinct)) == (FLOOD_VALUES * FLOOD_STEPS, FLOOD_VALUES * FLOOD_STEPS)
    assert float(total) == FLOOD_VALUES * sum(range(FLOOD_STEPS))


def test_three_backends_have_the_same_record(platform: Platform, storm: Storm) -> None:
    pod = storm["three-backends"]
    assert pod.end() == "Complete"
    assert pod.outcome == ("FINISHED", "finished")
    assert_nothing_lost(pod)
    seen = wandb_standin.state(platform)
    assert seen["unknown_operations"] == []
    (run,) = seen["runs"].values()
    assert run["state"] == "finished"
    rows = [(row["trainyard/step"], row["value"], row["twice"]) for row in run["history"]]
    assert rows == [(step, step, 2 * step) for step in pod.printed()]
    assert run["config"]["fate"]["value"] == "end"


def test_no_run_stays_running(platform: Platform, storm: Storm) -> None:
    ids = {pod.run["info"]["run_id"] for pod in storm.values()}
    found = {run["info"]["run_id"]: run["info"]["status"] for run in platform.runs(EXPERIMENT)}
    assert ids <= found.keys()
    assert "RUNNING" not in found.values()


def test_a_deleted_pod_is_an_interrupted_run(platform: Platform) -> None:
    pod = start_steps(platform, "deleted", "end")
    pod.wait_for_step(100)
    uid = pod.run["info"]["run_id"]
    platform.kubectl("delete", "pod", pod.name, "--wait")
    run = platform.mlflow("GET", "runs/get", run_id=uid)["run"]
    assert (run["info"]["status"], tags(run)["trainyard.end_reason"]) == ("KILLED", "interrupted")
    rows = pod.rows("value")
    assert rows == [(step, step) for step in range(len(rows))]
    assert len(rows) > 100
    platform.kubectl("delete", "job", "deleted")


def test_a_script_that_knows_nothing_of_us_gets_a_run(platform: Platform) -> None:
    command = ["trainyard", "run", "--experiment", EXPERIMENT, "--", "python3", "/programs/plain_mlflow.py"]
    pod = start(platform, "plain", command)
    assert pod.end() == "Complete"
    assert pod.outcome == ("FINISHED", "finished")
    assert params(pod.run) == {"lr": "0.1"}
    assert metrics(pod.run) == {"loss": 0.05}
    assert len(pod.rows("loss")) == 20
    platform.kubectl("delete", "job", "plain")


def test_the_doctor_finds_a_connected_pod_healthy(platform: Platform) -> None:
    platform.client_pod("doctor", ["trainyard", "doctor"])
    assert platform.pod_end("doctor") == "Succeeded", platform.kubectl("logs", "doctor")
    assert "FAILED" not in platform.kubectl("logs", "doctor")
    platform.kubectl("delete", "pod", "doctor")
