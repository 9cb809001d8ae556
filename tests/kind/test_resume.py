"""Training Jobs that are stopped in every way go on: one run, every step once, and the weights of an undisturbed one.

One storm for all of them, side by side; the tests look at what came of each Job.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from local_cluster.settings import RELEASE

from tests.kind.interruptions import CLUSTER_WIDE, INDEX, PROGRAM, STEPS_PER_EPOCH, Interrupted
from tests.kind.manifest_headers import apply, clean, header
from tests.kind.platform import Platform, manifest, metrics, params, tags
from tests.kind.training_pods import EXPERIMENT, TrainingPod, mount_programs, start

EPOCHS = 80
STEPS = EPOCHS * STEPS_PER_EPOCH
OUTAGE_S = 60
TRAIN = [
    "trainyard", "train", "digits", "--set", f"epochs={EPOCHS}", "--set", "model.channels=64",
    "--set", f"tracking.experiment={EXPERIMENT}", "--set", "checkpoint.every_steps=100",
]  # fmt: skip
MLFLOW = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=mlflow"
Storm = dict[str, Interrupted]


def train(platform: Platform, name: str, **changes: object) -> Interrupted:
    """The digits task in a Job with a volume for its state, unless `changes` says otherwise."""
    if "state" not in changes:
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "256Mi"}}},
        }
        platform.apply(claim)
        changes["state"] = {"persistentVolumeClaim": {"claimName": name}}
    # One thread: the same sums in the same order, and room for the others.
    environment = {"OMP_NUM_THREADS": "1", "TRAINYARD_GRACE_S": "60", **changes.pop("env", {})}  # type: ignore[dict-item]
    pod = start(platform, name, TRAIN, env=environment, retries=6, cpu="100m", **changes)
    return Interrupted(pod)


def in_s3(platform: Platform) -> dict[str, str]:
    """Variables with which checkpoints go to the platform's object store."""
    keys = platform.secret(f"{RELEASE}-objectstore")
    return {
        "TRAINYARD_CHECKPOINT_URI": "s3://mlflow/checkpoints",
        "AWS_ENDPOINT_URL": f"http://{RELEASE}-objectstore:8333",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": keys["access-key"],
        "AWS_SECRET_ACCESS_KEY": keys["secret-key"],
    }


def thrice(job: Interrupted, disturb: Callable[[], None]) -> None:
    """At a fifth, at two and at three fifths of the training: what comes after takes longer than any command."""
    done = 0
    for fifth in (1, 2, 3):
        # And not before the pod that came after the last time trains.
        job.wait_for_steps(max(fifth * STEPS // 5, done + 50))
        disturb()
        done = job.steps


def truncated(job: Interrupted) -> None:
    """The newest checkpoint is truncated by hand, and the process killed before it can write another one."""
    job.wait_for_steps(STEPS // 3)
    pod = job.current()
    job.freeze()
    script = "cd /state/checkpoints/*/ && cd $(ls -d step-* | sort | tail -1) && truncate --size=-1000 state.pt && pwd"
    job.pod.platform.kubectl("exec", pod["metadata"]["name"], "--container=shipper", "--", "sh", "-c", script)
    job.pod.kill(PROGRAM)
    job.wait_for_another(pod)


def outages(platform: Platform, job: Interrupted) -> None:
    """The object store is away for a minute. Then the pod goes, and its disk, while the tracking server is away."""
    job.wait_for_steps(STEPS // 4)
    platform.kubectl("scale", "statefulset", f"{RELEASE}-objectstore", "--replicas=0")
    began = time.monotonic()
    platform.wait_for("the store's absence to be told", lambda: told(job, "checkpoint of step"), OUTAGE_S)
    steps = job.steps
    job.wait_for_steps(steps + 200)  # training goes on
    time.sleep(max(0.0, began + OUTAGE_S - time.monotonic()))
    platform.kubectl("scale", "statefulset", f"{RELEASE}-objectstore", "--replicas=1")
    platform.kubectl("rollout", "status", f"statefulset/{RELEASE}-objectstore", "--timeout=180s")
    job.wait_for_steps(STEPS // 2)
    job.freeze()
    with CLUSTER_WIDE:
        platform.kubectl("scale", "deployment", f"{RELEASE}-mlflow", "--replicas=0")
        try:
            platform.wait_for("no MLflow pod", lambda: not platform.objects("pods", MLFLOW))
            pod = job.current()
            job.thaw()
            # So short that the shipper has no chance: what it could not deliver is in the checkpoint.
            platform.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=20", "--wait=false")
            job.wait_for_another(pod)
        finally:
            platform.kubectl("scale", "deployment", f"{RELEASE}-mlflow", "--replicas=1")
        platform.wait_ready()


def told(job: Interrupted, text: str) -> str:
    """What the newest pod says of it."""
    return "\n".join(line for line in job.pod.log().splitlines() if text in line)


def of_manifest(platform: Platform, job: str) -> Interrupted:
    """A Job of k8s/."""
    return Interrupted(TrainingPod(platform, job))


def by_manifest(platform: Platform, name: str, job: Interrupted) -> None:
    """A file of k8s/, applied and interrupted by the commands of its header."""
    apply(platform, name)
    job.wait_for_steps(1000)
    before = job.current()
    platform.shell(header(name)["Interrupt"])
    job.wait_for_another(before)
    assert platform.job_end(job.pod.job, timeout_s=420) == "Complete"


@pytest.fixture(scope="module")
def storm(platform: Platform) -> Iterator[Storm]:
    """The Jobs, by what happens to them; all have ended."""
    mount_programs(platform)
    jobs = {name: train(platform, name) for name in ("undisturbed", "deleted", "evicted", "drained", "truncated")}
    jobs["in-s3"] = train(platform, "in-s3", env=in_s3(platform), state={"emptyDir": {}})
    lives: list[Callable[[], None]] = [
        lambda: thrice(jobs["deleted"], jobs["deleted"].delete),
        lambda: thrice(jobs["evicted"], jobs["evicted"].evict),
        lambda: thrice(jobs["drained"], jobs["drained"].drain),
        lambda: truncated(jobs["truncated"]),
        lambda: outages(platform, jobs["in-s3"]),
        lambda: by_manifest(platform, "02-resume-after-preemption.yaml", of_manifest(platform, "resume-digits")),
        lambda: by_manifest(platform, "03-train-ddp-two-pods.yaml", of_manifest(platform, "train-ddp")),
    ]
    try:
        with ThreadPoolExecutor(len(lives)) as together:
            for life in [together.submit(life) for life in lives]:
                life.result()
        for job in jobs.values():
            platform.job_end(job.pod.job, timeout_s=420)
        yield jobs
    finally:
        platform.kubectl("delete", "job", "--ignore-not-found", *jobs)
        platform.kubectl("delete", "persistentvolumeclaim", "--ignore-not-found", *jobs)
        platform.kubectl("delete", "configmap", "programs")
        for name in ("02-resume-after-preemption.yaml", "03-train-ddp-two-pods.yaml"):
            clean(platform, name)


@pytest.mark.parametrize("name", ["undisturbed", "deleted", "evicted", "drained", "truncated", "in-s3"])
def test_it_is_one_run_with_every_step_once(platform: Platform, storm: Storm, name: str) -> None:
    job = storm[name].pod
    assert platform.job_end(job.job) == "Complete"
    assert job.outcome == ("FINISHED", "finished")
    of_undisturbed = storm["undisturbed"].pod
    for key, count in {"train/loss_step": STEPS, "train/accuracy_step": STEPS, "validation/loss": EPOCHS}.items():
        rows = job.rows(key)
        assert Counter(step for step, _ in rows) == Counter(range(1, count + 1)), f"{key} of {name}"
        assert rows == of_undisturbed.rows(key), f"{key} of {name}"


@pytest.mark.parametrize("name", ["deleted", "evicted", "drained", "truncated", "in-s3"])
def test_the_final_weights_are_those_of_an_undisturbed_run(storm: Storm, name: str) -> None:
    found, expected = (tags(storm[each].pod.run)["trainyard.parameter_hash"] for each in (name, "undisturbed"))
    assert found == expected
    assert metrics(storm[name].pod.run)["test/accuracy"] == metrics(storm["undisturbed"].pod.run)["test/accuracy"]


@pytest.mark.parametrize("name", ["deleted", "evicted", "drained"])
def test_each_pod_but_the_last_says_that_it_was_interrupted(storm: Storm, name: str) -> None:
    codes = [exit_code(pod) for pod in storm[name].pod.pods]
    # What kubectl deletes is gone; evicted pods may be kept.
    assert set(codes[:-1]) <= {75}
    assert codes[-1] == 0
    assert tags(storm[name].pod.run)["trainyard.attempt"] == "4"
    print(
        f"{name}: from the start of the last container to its first new step {seconds_to_a_new_step(storm[name]):.1f} s"
    )


def seconds_to_a_new_step(job: Interrupted) -> float:
    """Of the newest pod."""
    (status,) = [each for each in job.pod.pod["status"]["containerStatuses"] if each["name"] == "trainer"]
    began = datetime.fromisoformat(status["state"]["terminated"]["startedAt"]).timestamp()
    statement = (
        f"SELECT min(timestamp) FROM metrics WHERE run_uuid = '{job.pod.run['info']['run_id']}' AND key = 'train/loss_step' "
        f"AND timestamp > {1000 * began:.0f}"
    )
    return int(job.pod.platform.sql(statement)[0][0]) / 1000 - began


def test_a_truncated_checkpoint_is_skipped_with_a_warning(storm: Storm) -> None:
    line = told(storm["truncated"], "is skipped")
    assert "state.pt has" in line
    assert "is used instead" in line


def test_a_store_that_is_away_stops_nothing(storm: Storm) -> None:
    log = storm["in-s3"].pod.log()
    assert "going on after step" in log
    assert "s3://mlflow/checkpoints/" in log


def exit_code(pod: dict[str, Any]) -> int:
    (status,) = [each for each in pod["status"]["containerStatuses"] if each["name"] == "trainer"]
    code: int = status["state"]["terminated"]["exitCode"]
    return code


@pytest.mark.usefixtures("storm")
def test_a_bug_is_tried_as_often_as_asked_and_ends_failed(platform: Platform) -> None:
    pod = start(platform, "always-fails", ["python3", "/programs/always_fails.py"], retries=2)
    assert platform.job_end("always-fails") == "Failed"
    assert [exit_code(each) for each in pod.pods] == [1, 1, 1]
    assert pod.outcome == ("FAILED", "failed")
    assert "a bug that no retry mends" in tags(pod.run)["trainyard.traceback"]
    assert b"a bug that no retry mends" in platform.download(pod.run["info"]["run_id"], "traceback.txt")
    assert pod.rows("value") == [(1, 1.0)]
    platform.kubectl("delete", "job", "always-fails")


@pytest.mark.usefixtures("storm")
@pytest.mark.parametrize("job", ["resume-digits", "train-ddp"])
def test_the_manifests_go_on_as_their_headers_say(platform: Platform, job: str) -> None:
    run = platform.run_of_job(job)
    assert (run["info"]["status"], tags(run)["trainyard.end_reason"]) == ("FINISHED", "finished")
    steps = Counter(step for step, _ in platform.history(run["info"]["run_id"], "train/loss_step"))
    assert steps == Counter(range(1, int(params(run)["epochs"]) * STEPS_PER_EPOCH + 1))
    assert tags(run)["trainyard.attempt"] == "2"
    assert metrics(run)["test/accuracy"] > 0.95


@pytest.mark.usefixtures("storm")
def test_both_ranks_were_there_and_left_and_came_back_together(platform: Platform) -> None:
    pods = platform.objects("pods", "batch.kubernetes.io/job-name=train-ddp")
    ends = Counter((pod["metadata"]["labels"][INDEX], exit_code(pod)) for pod in pods)
    # Pod 1 was deleted, and is gone; pod 0 left with a checkpoint. Training ends only if the weights of both are the same.
    assert ends == {("0", 75): 1, ("0", 0): 1, ("1", 0): 1}
    assert tags(platform.run_of_job("train-ddp"))["trainyard.parameter_hash"].startswith("sha256:")


def test_a_pod_gets_the_gpus_there_are_and_waits_for_more(platform: Platform) -> None:
    """Pretended ones: a node's status says what it has, and the scheduler counts."""
    node = next(pod["spec"]["nodeName"] for pod in platform.objects("pods", MLFLOW))
    path = "/status/capacity/nvidia.com~1gpu"
    patch_node(platform, node, [{"op": "add", "path": path, "value": "1"}])
    try:
        for name, gpus in (("one-gpu", 1), ("four-gpus", 4)):
            platform.apply(gpu_job(platform, name, gpus))
        assert platform.job_end("one-gpu") == "Complete"
        reason = platform.wait_for(
            "the pod for four GPUs to be told why", lambda: why_pending(platform, "four-gpus"), 60
        )
        assert "Insufficient nvidia.com/gpu" in reason
    finally:
        platform.kubectl("delete", "job", "one-gpu", "four-gpus", "--ignore-not-found")
        patch_node(platform, node, [{"op": "remove", "path": path}])


def patch_node(platform: Platform, node: str, patch: list[dict[str, str]]) -> None:
    platform.kubectl("patch", "node", node, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")


def gpu_job(platform: Platform, name: str, gpus: int) -> dict[str, Any]:
    """The Job of k8s/04 with our CPU image, and a program that needs no GPU."""
    text = Path(manifest("04-finetune-lora-gpu.yaml")).read_text()
    job: dict[str, Any] = json.loads(
        platform.kubectl("create", "--dry-run=client", "--output=json", "--filename=-", stdin=text)
    )
    job["metadata"]["name"] = name
    spec = job["spec"]["template"]["spec"]
    (trainer,), (shipper,) = spec["containers"], spec["initContainers"]
    trainer["image"] = shipper["image"] = platform.images["trainer"]
    trainer.pop("args")
    trainer["command"] = ["python3", "-c", "print('on a GPU')"]
    trainer["resources"] = {"requests": {"cpu": "50m"}, "limits": {"nvidia.com/gpu": gpus}}
    return job


def why_pending(platform: Platform, job: str) -> str:
    """What the scheduler says of the Job's pod."""
    for pod in platform.objects("pods", f"batch.kubernetes.io/job-name={job}"):
        for condition in pod["status"].get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return str(condition["message"])
    return ""
