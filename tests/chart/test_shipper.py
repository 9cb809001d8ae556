"""The shipper of every training Job: a native sidecar that delivers the spool and outlives the training process."""

import re
from typing import Any

import pytest
from api_server import serving
from manifests import CHART, NAMESPACE, Object, RenderError, Scenario, container, environment, pod_spec
from scenarios import BIG_JOB, JOBS, SCENARIOS

PLAIN: dict[str, Any] = {"args": ["train", "digits"]}
OWN = {"trainer": {"TRAINYARD_SHIPPER", "TRAINYARD_GRACE_S"}, "shipper": {"TRAINYARD_SHIP_GRACE_S"}}
"""Variables that only one of the two has."""


def render(job: dict[str, Any], **values: Any) -> Object:
    (found,) = Scenario(values={"trainingJobs": {"demo": job}, **values}).kind("Job")
    return found


def variables(spec: Object) -> dict[str, Any]:
    """What each variable of a container is: a value, or where it comes from."""
    names = [entry["name"] for entry in spec["env"]]
    assert len(names) == len(set(names)), f"a variable is set twice: {names}"
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in spec["env"]}


def mounts(spec: Object) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in spec["volumeMounts"]}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_every_training_pod_has_one(scenario: Scenario) -> None:
    """As init container with restartPolicy Always: started first, stopped last, and no hindrance to the Job's end."""
    for job in scenario.kind("Job"):
        (shipper,) = pod_spec(job)["initContainers"]
        assert (shipper["name"], shipper["restartPolicy"]) == ("shipper", "Always")
        assert shipper["args"] == ["spool", "ship", "--follow"] and "command" not in shipper
        assert [c["name"] for c in pod_spec(job)["containers"]] == ["trainer"]
        assert pod_spec(job)["restartPolicy"] == "Never"


def test_the_policies_see_jobs_of_every_kind() -> None:
    """What `test_policy.py` checks has a Job with one node, with several and with a volume in it."""
    jobs = SCENARIOS["jobs"].kind("Job")
    assert len(jobs) == len(JOBS) and {job["spec"]["completions"] for job in jobs} == {1, 4, 1000}


@pytest.mark.parametrize("job", [PLAIN, BIG_JOB], ids=["the trainer's image", "an image of its own"])
def test_image_is_the_trainers(job: dict[str, Any]) -> None:
    """The program's image need not know how to ship."""
    images = {"registry": "registry.example.com", "trainer": {"tag": "1.2"}}
    spec = container(render(job, images=images), "shipper")
    assert spec["image"] == "registry.example.com/trainyard/trainer:1.2"


@pytest.mark.parametrize("job", [PLAIN, BIG_JOB], ids=["plain", "big"])
def test_environment_is_the_trainers(job: dict[str, Any]) -> None:
    """One contract for both; a key in a Secret and a setting of the Job reach the shipper, too."""
    rendered = render(job)
    trainer, shipper = container(rendered, "trainer"), container(rendered, "shipper")
    assert shipper["envFrom"] == trainer["envFrom"]
    own = {
        name: set(variables(spec)) - set(variables(other))
        for name, spec, other in [("trainer", trainer, shipper), ("shipper", shipper, trainer)]
    }
    checkpoints = {"TRAINYARD_CHECKPOINT_URI"} if "checkpointUri" in job else set()
    assert own == {**OWN, "trainer": OWN["trainer"] | checkpoints}
    both = set(variables(trainer)) - own["trainer"]
    assert {n: variables(trainer)[n] for n in both} == {n: variables(shipper)[n] for n in both}
    assert set(job.get("env", {})) <= both


def test_the_trainer_leaves_delivery_to_it() -> None:
    assert environment(container(render(PLAIN), "trainer"))["TRAINYARD_SHIPPER"] == "sidecar"


def test_both_share_the_state_and_not_the_scratch_space() -> None:
    """The spool lies in /state; files of another user in a shared /tmp could shut the shipper out."""
    job = render(PLAIN)
    trainer, shipper = (mounts(container(job, name)) for name in ("trainer", "shipper"))
    assert trainer["/state"] == shipper["/state"] == "state"
    assert trainer["/tmp"] != shipper["/tmp"]
    assert "/dev/shm" not in shipper
    for name in ("trainer", "shipper"):
        assert environment(container(job, name))["TRAINYARD_STATE_DIR"] == "/state"


@pytest.mark.parametrize(
    ("grace", "program", "shipper"), [(10, "5", "5"), (20, "5", "15"), (21, "6", "16"), (86400, "86385", "86395")]
)
def test_each_gives_up_before_it_is_killed(grace: int, program: str, shipper: str) -> None:
    """The program first, and its launcher 5 seconds after it: the shipper is told to stop when both are gone."""
    job = render({**PLAIN, "gracePeriodSeconds": grace})
    assert pod_spec(job)["terminationGracePeriodSeconds"] == grace
    assert environment(container(job, "trainer"))["TRAINYARD_GRACE_S"] == program
    assert environment(container(job, "shipper"))["TRAINYARD_SHIP_GRACE_S"] == shipper
    assert int(program) + 5 <= grace


def test_it_outlives_a_server_that_restarts() -> None:
    """The default grace periods: MLflow may be away for minutes when training ends."""
    small = Scenario(profile=CHART / "profiles" / "small.yaml").kind("Job")[0]
    assert [pod_spec(job)["terminationGracePeriodSeconds"] for job in (render(PLAIN), small)] == [600, 300]


def test_resources_are_its_own() -> None:
    """Small by default, and it takes no GPU."""
    spec = container(render({**PLAIN, "gpus": 8}), "shipper")
    assert spec["resources"] == {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    bigger = {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "1Gi"}}
    assert container(render({**PLAIN, "shipperResources": bigger}), "shipper")["resources"] == bigger


def test_trackers_are_those_of_the_job() -> None:
    assert environment(container(render(PLAIN), "trainer"))["TRAINYARD_TRACKING"] == "mlflow"
    job = render({**PLAIN, "tracking": "json,mlflow,wandb"})
    assert environment(container(job, "trainer"))["TRAINYARD_TRACKING"] == "json,mlflow,wandb"


def test_json_alone_needs_a_volume() -> None:
    """Refused without one in test_values.py; beside MLflow it is a copy to look at while the pod lives."""
    assert render({**PLAIN, "tracking": "json", "checkpoint": {"size": "1Gi"}})
    assert render({**PLAIN, "tracking": "json,mlflow"})


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *variables(container(render({**PLAIN, "nodes": 2, "checkpointUri": "s3://team"}), "trainer")),
            *OWN["shipper"],
        }
    ),
)
def test_no_variable_of_the_chart_can_be_set_twice(name: str) -> None:
    """Every variable that the chart sets is known to the refusal, which says where."""
    with pytest.raises(RenderError, match=re.escape(f"trainingJobs.demo.env.{name}: the chart sets this variable")):
        render({**PLAIN, "env": {name: "1"}})


def test_settings_of_the_tracker_may_be_set() -> None:
    job = render({**PLAIN, "env": {"TRAINYARD_SPOOL_BYTES": "1000000", "WANDB_MODE": "online"}})
    assert environment(container(job, "shipper"))["TRAINYARD_SPOOL_BYTES"] == "1000000"


def test_a_new_shipper_is_no_reason_to_train_again() -> None:
    """With an image of its own a Job keeps its name when Trainyard's trainer changes, though its new pods would ship with that."""
    pinned = {**PLAIN, "image": "example.com/pinned:1"}
    before, after = (render(pinned, images={"trainer": {"tag": tag}}) for tag in ("1", "2"))
    assert before["metadata"]["name"] == after["metadata"]["name"]
    assert container(before, "shipper")["image"] != container(after, "shipper")["image"]


def installed(job: Object) -> Object:
    """The Job as Helm finds its own in the cluster."""
    owner = {"meta.helm.sh/release-name": "trainyard", "meta.helm.sh/release-namespace": NAMESPACE}
    return {**job, "metadata": {**job["metadata"], "namespace": NAMESPACE, "annotations": owner}}


def test_a_job_in_the_cluster_keeps_its_shipper() -> None:
    """Kubernetes refuses to change a Job's pods, so an upgrade has to render the image that is there; a new Job gets the new one."""
    pinned = {**PLAIN, "image": "example.com/pinned:1"}
    live = render(pinned, images={"trainer": {"tag": "1"}})
    newer: dict[str, Any] = {"images": {"trainer": {"tag": "2"}}}
    with serving([installed(live)]) as server:
        same = Scenario(values={"trainingJobs": {"demo": pinned}, **newer}, api_server=server)
        changed = Scenario(values={"trainingJobs": {"demo": {**pinned, "retries": 9}}, **newer}, api_server=server)
        assert same.kind("Job") == [live]
        assert container(changed.kind("Job")[0], "shipper")["image"] == "trainyard/trainer:2"
