"""Training Jobs: their pods, and when an upgrade makes a new one."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import CHART, ROOT, Object, Scenario, container, environment, pod_spec, pod_template, secret_data
from scenarios import BIG_JOB, LONGEST_RELEASE

PLAIN: dict[str, Any] = {"args": ["train", "digits"]}


def scenario(job: dict[str, Any], **values: Any) -> Scenario:
    return Scenario(values={"trainingJobs": {"demo": job}, **values})


def render(job: dict[str, Any], **values: Any) -> Object:
    """The one Job of these values."""
    (found,) = scenario(job, **values).kind("Job")
    return found


def name(job: dict[str, Any], **values: Any) -> str:
    found: str = render(job, **values)["metadata"]["name"]
    return found


def trainer(job: Object) -> Object:
    return container(job, "trainer")


def volume(job: Object, wanted: str) -> Object:
    found: Object = next(v for v in pod_spec(job)["volumes"] if v["name"] == wanted)
    return found


def test_no_job_by_default() -> None:
    assert Scenario().kind("Job") == []


def test_the_small_profile_trains_digits() -> None:
    (job,) = Scenario(profile=CHART / "profiles" / "small.yaml").kind("Job")
    assert job["metadata"]["name"].startswith("trainyard-train-digits-")
    assert trainer(job)["args"] == ["train", "digits"] and "command" not in trainer(job)


def test_environment_is_the_contract() -> None:
    """The client contract by envFrom, and the Job's identity from the labels that Kubernetes sets."""
    spec = trainer(render({**PLAIN, "env": {"EPOCHS": "10"}, "envFromSecrets": ["wandb"]}))
    assert spec["envFrom"] == [
        {"configMapRef": {"name": "trainyard-client"}},
        {"secretRef": {"name": "trainyard-client"}},
        {"secretRef": {"name": "wandb"}},
    ]
    fields = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in spec["env"] if "valueFrom" in e}
    assert fields == {
        "TRAINYARD_JOB_NAME": "metadata.labels['batch.kubernetes.io/job-name']",
        "TRAINYARD_JOB_UID": "metadata.labels['batch.kubernetes.io/controller-uid']",
        "TRAINYARD_POD_NAME": "metadata.name",
        "TRAINYARD_NODE_NAME": "spec.nodeName",
    }
    assert environment(spec) == {
        "TRAINYARD_IMAGE": "trainyard/trainer:0.1.0",
        "TRAINYARD_STATE_DIR": "/state",
        "TRAINYARD_TRACKING": "mlflow",
        "TRAINYARD_SHIPPER": "sidecar",
        "TRAINYARD_GRACE_S": "585",
        "HOME": "/tmp",
        "EPOCHS": "10",
    }


def test_no_training_pod_holds_database_or_store_keys() -> None:
    every = Scenario(values={"trainingJobs": {"demo": PLAIN}})
    guarded = {every.one("Secret", n)["metadata"]["name"] for n in ("postgres", "mlflow", "optuna", "objectstore")}
    for part in ("trainer", "shipper"):
        sources = container(every.kind("Job")[0], part)["envFrom"]
        assert not guarded & {source["secretRef"]["name"] for source in sources if "secretRef" in source}, part
    assert not secret_data(every.one("Secret", "client"))


def test_failures_are_told_apart() -> None:
    """Disruptions and 75 do not count, 42 ends the Job, the rest counts; a pod is replaced when it is gone."""
    spec = render({**PLAIN, "retries": 7})["spec"]
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [75]}},
        {"action": "FailJob", "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [42]}},
    ]
    assert spec["backoffLimit"] == 7 and "backoffLimitPerIndex" not in spec
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_failures_of_nodes_are_counted_apart() -> None:
    """They fail together: counted in one, two pods would use up the retries twice as fast and wait four times as long."""
    spec = render({**PLAIN, "nodes": 2, "retries": 7})["spec"]
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (7, 0) and "backoffLimit" not in spec


def test_zero_is_a_value() -> None:
    """retries: 0 is not mistaken for the default."""
    assert render({**PLAIN, "retries": 0})["spec"]["backoffLimit"] == 0
    assert render({**PLAIN, "nodes": 2, "retries": 0})["spec"]["backoffLimitPerIndex"] == 0


LAUNCHES: dict[str, tuple[dict[str, Any], list[str] | None]] = {
    "one process": ({}, None),
    "one GPU": ({"gpus": 1}, None),
    "a process per GPU": ({"gpus": 2}, ["1", "2", "trainyard"]),
    "all GPUs in one process": ({"gpus": 2, "processesPerNode": 1}, None),
    "two processes on CPUs": ({"processesPerNode": 2}, ["1", "2", "trainyard"]),
    "two nodes": ({"nodes": 2}, ["2", "1", "trainyard"]),
    "two nodes with GPUs": ({"nodes": 2, "gpus": 8}, ["2", "8", "trainyard"]),
    "fewer processes than GPUs": ({"nodes": 2, "gpus": 8, "processesPerNode": 4}, ["2", "4", "trainyard"]),
    "a launcher of its own": ({"nodes": 2, "gpus": 8, "processesPerNode": 0}, None),
    "a command": ({"nodes": 2, "command": ["python3", "train.py"]}, ["2", "1", "python3", "train.py"]),
    "an image of its own": (
        {"gpus": 2, "image": "example.com/a:1", "command": ["train"]},
        ["1", "2", "train"],
    ),
}


@pytest.mark.parametrize(("job", "launch"), LAUNCHES.values(), ids=LAUNCHES.keys())
def test_launcher_off_and_on(job: dict[str, Any], launch: list[str] | None) -> None:
    """Several processes are started by the launcher, which gets the numbers of nodes and processes, and the command."""
    spec = trainer(render({**PLAIN, **job}))
    assert spec["args"] == PLAIN["args"]
    if launch is None:
        assert "command" not in spec
    else:
        nodes, processes, *command = launch
        launcher = ["trainyard", "launch", "--nnodes", nodes, "--nproc-per-node", processes, "--"]
        assert spec["command"] == [*launcher, *command]


def test_a_program_that_launches_itself_starts_as_it_is() -> None:
    job = {"image": "example.com/a:1", "command": ["torchrun"], "args": ["train.py"], "nodes": 2, "processesPerNode": 0}
    spec = trainer(render(job))
    assert (spec["command"], spec["args"]) == (["torchrun"], ["train.py"])
    assert "MASTER_ADDR" in environment(spec)
    entrypoint = trainer(render({**job, "command": []}))
    assert "command" not in entrypoint


def test_checkpoints_in_s3_off_and_on() -> None:
    """Only the program reads the address; no volume comes with it, and one beside it holds the spool."""
    assert "TRAINYARD_CHECKPOINT_URI" not in environment(trainer(render(PLAIN)))
    job = {**PLAIN, "checkpointUri": "s3://team/runs", "envFromSecrets": ["keys"]}
    rendered = render(job)
    assert environment(trainer(rendered))["TRAINYARD_CHECKPOINT_URI"] == "s3://team/runs"
    assert {"secretRef": {"name": "keys"}} in trainer(rendered)["envFrom"]
    assert "TRAINYARD_CHECKPOINT_URI" not in environment(container(rendered, "shipper"))
    assert "emptyDir" in volume(rendered, "state")
    both = render({**job, "checkpoint": {"size": "1Gi"}})
    assert "persistentVolumeClaim" in volume(both, "state")
    assert environment(trainer(both))["TRAINYARD_CHECKPOINT_URI"] == "s3://team/runs"


def test_priority_off_and_on() -> None:
    assert "priorityClassName" not in pod_spec(render(PLAIN))
    assert pod_spec(render({**PLAIN, "priorityClass": "research"}))["priorityClassName"] == "research"


def test_time_to_live_off_and_on() -> None:
    """It may change while the Job exists, and is no reason to train again."""
    assert "ttlSecondsAfterFinished" not in render(PLAIN)["spec"]
    day = render({**PLAIN, "ttlSeconds": 31536000})
    assert day["spec"]["ttlSecondsAfterFinished"] == 31536000
    assert isinstance(day["spec"]["ttlSecondsAfterFinished"], int), "Kubernetes refuses 3.1536e+07"
    assert day["metadata"]["name"] == name(PLAIN)


def test_deadline_off_and_on() -> None:
    assert "activeDeadlineSeconds" not in render(PLAIN)["spec"]
    year = render({**PLAIN, "deadlineSeconds": 31536000})["spec"]["activeDeadlineSeconds"]
    assert year == 31536000 and isinstance(year, int), "Kubernetes refuses 3.1536e+07, as Helm prints it by itself"


def test_gpus_are_a_limit_and_a_toleration() -> None:
    """The resource's name is a value; without GPUs neither is there."""
    job = render({**PLAIN, "gpus": 2, "gpuResource": "amd.com/gpu"})
    assert trainer(job)["resources"]["limits"]["amd.com/gpu"] == 2
    assert pod_spec(job)["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    plain = render(PLAIN)
    assert set(trainer(plain)["resources"]["limits"]) == {"memory"} and "tolerations" not in pod_spec(plain)


def test_placement_is_passed_on() -> None:
    spec = pod_spec(render(BIG_JOB))
    assert spec["nodeSelector"] == BIG_JOB["nodeSelector"]
    assert BIG_JOB["tolerations"][0] in spec["tolerations"]


def test_one_node_needs_no_service() -> None:
    job = render(PLAIN)
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 1, 1)
    assert not [s for s in scenario(PLAIN).kind("Service") if s["spec"].get("clusterIP") == "None"]
    assert "MASTER_ADDR" not in environment(trainer(job)) and "subdomain" not in pod_spec(job)


def test_several_nodes_find_the_first() -> None:
    """MASTER_ADDR is the DNS name that Kubernetes gives to pod 0, from before it is ready."""
    job = render({**PLAIN, "nodes": 4})
    (service,) = (s for s in scenario({**PLAIN, "nodes": 4}).kind("Service") if s["spec"].get("clusterIP") == "None")
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 4
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert pod_spec(job)["subdomain"] == service["metadata"]["name"]
    env = environment(trainer(job))
    assert env["MASTER_ADDR"] == f"$(TRAINYARD_JOB_NAME)-0.{service['metadata']['name']}"
    assert env["MASTER_PORT"] == "29500"
    names = [variable["name"] for variable in trainer(job)["env"]]
    assert names.index("TRAINYARD_JOB_NAME") < names.index("MASTER_ADDR"), (
        "the kubelet expands only what stands further up"
    )


def test_shared_memory_and_scratch() -> None:
    job = render({**PLAIN, "shmSize": "3Gi", "tmpSize": "5Gi", "stateSize": "7Gi"})
    assert volume(job, "shm")["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}
    assert volume(job, "tmp")["emptyDir"] == volume(job, "shipper-tmp")["emptyDir"] == {"sizeLimit": "5Gi"}
    assert volume(job, "state")["emptyDir"] == {"sizeLimit": "7Gi"}
    mounts = {mount["name"]: mount["mountPath"] for mount in trainer(job)["volumeMounts"]}
    assert mounts == {"state": "/state", "tmp": "/tmp", "shm": "/dev/shm"}


def test_state_is_lost_without_a_checkpoint_volume() -> None:
    assert volume(render(PLAIN), "state")["emptyDir"] == {"sizeLimit": "10Gi"}
    assert not [c for c in scenario(PLAIN).names("PersistentVolumeClaim") if c.endswith("-checkpoint")]


@pytest.mark.parametrize(
    ("nodes", "checkpoint", "mode"),
    [
        (1, {"size": "5Gi"}, "ReadWriteOncePod"),
        (4, {"size": "5Gi"}, "ReadWriteMany"),
        (1, {"size": "5Gi", "accessMode": "ReadWriteOnce"}, "ReadWriteOnce"),
    ],
)
def test_checkpoint_volume(nodes: int, checkpoint: dict[str, str], mode: str) -> None:
    """One writer at a time unless asked otherwise; of the default class unless named."""
    job = {**PLAIN, "nodes": nodes, "checkpoint": checkpoint}
    claim = scenario(job).one("PersistentVolumeClaim", "demo-checkpoint")
    assert claim["spec"] == {"accessModes": [mode], "resources": {"requests": {"storage": "5Gi"}}}
    assert volume(render(job), "state")["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_checkpoint_volume_is_the_same_for_every_spec() -> None:
    """A changed Job finds the volume of the one before, where its runs have folders of their own; so does one switched off."""
    first = {**PLAIN, "checkpoint": {"size": "5Gi"}}
    other = {**first, "args": ["train", "digits", "--set", "lr=0.1"]}
    assert name(first) != name(other)
    claims = [scenario(job).names("PersistentVolumeClaim") for job in (first, other, {**first, "enabled": False})]
    assert claims[0] == claims[1] == claims[2]


def test_disabled_job_is_gone() -> None:
    assert scenario({**PLAIN, "enabled": False, "nodes": 2}).kind("Job") == []
    assert scenario({**PLAIN, "enabled": False, "nodes": 2}).names("Service") == scenario(PLAIN).names("Service")


def test_queue_off_and_on() -> None:
    job = render({**PLAIN, "queue": "gpus"})
    assert job["spec"]["suspend"] is True
    assert (
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
        == "gpus"
        == job["metadata"]["labels"]["trainyard.dev/queue"]
    )
    plain = render(PLAIN)
    assert "suspend" not in plain["spec"]
    assert not {"kueue.x-k8s.io/queue-name", "trainyard.dev/queue"} & set(plain["metadata"]["labels"])


def test_labels_of_job_and_pods() -> None:
    job = render(PLAIN)
    template = pod_template(job)
    assert template is not None
    for labels in (job["metadata"]["labels"], template["metadata"]["labels"]):
        assert (labels["trainyard.dev/kind"], labels["trainyard.dev/name"]) == ("training", "demo")
        assert labels["app.kubernetes.io/component"] == "training"


CHANGES: dict[str, dict[str, Any]] = {
    "image": {"image": "example.com/other:1"},
    "command": {"command": ["python3"]},
    "args": {"args": ["train", "digits", "--set", "lr=0.1"]},
    "gpus": {"gpus": 1},
    "resources": {"resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}},
    "tracking": {"tracking": "mlflow,wandb"},
    "shipperResources": {"shipperResources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}},
    "nodes": {"nodes": 2},
    "processesPerNode": {"processesPerNode": 2},
    "env": {"env": {"EPOCHS": "2"}},
    "envFromSecrets": {"envFromSecrets": ["wandb"]},
    "shmSize": {"shmSize": "2Gi"},
    "tmpSize": {"tmpSize": "2Gi"},
    "stateSize": {"stateSize": "2Gi"},
    "checkpoint": {"checkpoint": {"size": "1Gi"}},
    "checkpointUri": {"checkpointUri": "s3://team"},
    "deadlineSeconds": {"deadlineSeconds": 60},
    "retries": {"retries": 0},
    "gracePeriodSeconds": {"gracePeriodSeconds": 10},
    "queue": {"queue": "gpus"},
    "priorityClass": {"priorityClass": "research"},
    "nodeSelector": {"nodeSelector": {"disk": "fast"}},
    "tolerations": {"tolerations": [{"key": "team", "operator": "Exists"}]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_spec_makes_a_new_job(change: dict[str, Any]) -> None:
    assert name({**PLAIN, **change}) != name(PLAIN)


def test_every_key_of_a_job_is_tried() -> None:
    """A key added to the chart is added here, or to the few that change no spec by themselves."""
    keys = set(yaml.safe_load((CHART / "values.yaml").read_text())["trainingDefaults"])
    assert keys == set(CHANGES) | {"enabled", "gpuResource", "ttlSeconds"}


def test_new_trainer_image_makes_a_new_job() -> None:
    assert name(PLAIN, images={"trainer": {"tag": "1.1"}}) != name(PLAIN)
    pinned = {**PLAIN, "image": "example.com/pinned:1"}
    assert name(pinned, images={"trainer": {"tag": "1.1"}}) == name(pinned)


@pytest.mark.parametrize(
    "values",
    [
        {"mlflow": {"replicas": 2}},
        {"client": {"wandbBaseUrl": "https://wandb.example.com"}},
        {"images": {"mlflow": {"tag": "1.1"}}},
        {"trainingJobs": {"demo": PLAIN, "other": {**PLAIN, "gpus": 1}}},
        {"trainingJobs": {"demo": {**PLAIN, "retries": 3, "processesPerNode": "auto", "checkpointUri": ""}}},
        {"trainingJobs": {"demo": {**PLAIN, "priorityClass": "", "processesPerNode": 1}}},
    ],
    ids=["server", "client", "server's image", "another job", "defaults said aloud", "what the default comes to"],
)
def test_unchanged_spec_is_the_same_job(values: dict[str, Any]) -> None:
    """Nothing but its own spec makes a Job run again."""
    names = Scenario(values={"trainingJobs": {"demo": PLAIN}, **values}).names("Job")
    assert name(PLAIN) in names


def test_job_stays_the_same_over_chart_versions(tmp_path: Path) -> None:
    """A new chart with the same images changes labels of the Job, not its spec or name."""
    copy = tmp_path / "trainyard"
    shutil.copytree(CHART, copy)
    manifest = yaml.safe_load((CHART / "Chart.yaml").read_text())
    manifest["version"] = "9.9.9"
    (copy / "Chart.yaml").write_text(yaml.safe_dump(manifest))
    (before,) = scenario(PLAIN).kind("Job")
    (after,) = Scenario(values={"trainingJobs": {"demo": PLAIN}}, chart=copy).kind("Job")
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"]["helm.sh/chart"] == "trainyard-9.9.9"


def test_comment_in_the_template_makes_no_new_job(tmp_path: Path) -> None:
    copy = tmp_path / "trainyard"
    shutil.copytree(CHART, copy)
    template = copy / "templates" / "training" / "_job.tpl"
    template.write_text(template.read_text().replace("completionMode:", "# Said otherwise.\ncompletionMode:"))
    assert Scenario(values={"trainingJobs": {"demo": PLAIN}}, chart=copy).names("Job") == {name(PLAIN)}


def test_long_release_keeps_the_jobs_name_readable() -> None:
    long = Scenario(values={"trainingJobs": {"a-job-with-thirty-characters-x": PLAIN}}, release=LONGEST_RELEASE)
    (job,) = long.names("Job")
    assert "-a-job-with-thirty-characters-x-" in job


def test_defaults_apply_to_every_job_and_are_replaced_whole() -> None:
    """A Job's own map takes the place of the default's; it is not mixed with it."""
    defaults = {"env": {"FROM": "default"}, "retries": 9}
    assert environment(trainer(render(PLAIN, trainingDefaults=defaults)))["FROM"] == "default"
    own = render({**PLAIN, "env": {"OWN": "1"}}, trainingDefaults=defaults)
    assert "FROM" not in environment(trainer(own))
    assert own["spec"]["backoffLimit"] == 9


def test_the_readmes_values_are_the_charts() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (job,) = Scenario(values=yaml.safe_load(text)).kind("Job")
    launcher = container(job, "trainer")["command"]
    assert launcher == ["trainyard", "launch", "--nnodes", "2", "--nproc-per-node", "8", "--", "trainyard"]
    assert environment(container(job, "trainer"))["TRAINYARD_CHECKPOINT_URI"] == "s3://team/checkpoints"
