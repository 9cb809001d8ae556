"""What others build on: objects' names, the client contract, and the `helm test` that holds it."""

from typing import Any

import pytest
import yaml
from manifests import ROOT, Object, Scenario, container, environment, secret_data, secret_keys
from scenarios import BIG_JOB, BIG_SWEEP, WANDB, WITHOUT_TRAINER
from trainyard.environment import JobEnvironment

FOR_INFORMATION = {"TRAINYARD_BUCKET", "TRAINYARD_S3_ENDPOINT_URL"}
"""Of the client contract: the trainer needs neither."""
OF_THE_SHIPPER = {"TRAINYARD_SHIP_GRACE_S"}
"""Read where the shipper is started; see tests/kind."""
OTHERS_SET = {
    "TRAINYARD_SPOOL_BYTES": "a Job's env",
    "TRAINYARD_SHIP_DEADLINE_S": "a laptop, where no sidecar ships",
    "TRAINYARD_TRACKING_WAIT_S": "a Job's env",
    "TRAINYARD_JSON_DIR": "a laptop",
    "TRAINYARD_RUN_UID": "`trainyard run`",
    "TRAINYARD_SYSTEM_METRICS_S": "a Job's env",
    "TRAINYARD_IMAGE_DIGEST": "a Job's env: no field tells it to a pod",
    "TRAINYARD_GIT_COMMIT": "an image",
    "TRAINYARD_GIT_BRANCH": "an image",
    "TRAINYARD_GIT_DIRTY": "an image",
    "TRAINYARD_SWEEP_ID": "a sweep's worker, for its trials",
    "TRAINYARD_TRIAL": "a sweep's worker, for its trials",
    "TRAINYARD_PARENT_RUN_ID": "a sweep's worker, for its trials",
    "TRAINYARD_PARAMETERS": "a sweep's worker, for its trials",
    "TRAINYARD_TRIAL_DIR": "a sweep's worker, for its trials",
}
"""What the trainer reads besides, and who says it."""


class Asked(dict[str, str]):
    """Variables, and the names of all that were asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)


def training_containers() -> list[tuple[str, Object]]:
    """Name and spec of both containers of the largest Job and sweep, and of all Jobs of k8s/ that are made like them."""
    jobs = Scenario(values={"trainingJobs": {"demo": BIG_JOB}, "sweeps": {"search": BIG_SWEEP}, **WANDB}).kind("Job")
    for path in sorted((ROOT / "k8s").glob("*.yaml")):
        if path.stem not in WITHOUT_TRAINER:
            jobs += [each for each in yaml.safe_load_all(path.read_text()) if each["kind"] == "Job"]
    return [(name, container(job, name)) for job in jobs for name in ("trainer", "shipper")]


def test_the_trainer_reads_what_the_chart_sets() -> None:
    """Each variable that we name after ourselves, in the chart and in k8s/; and nobody forgot to set one."""
    client = Scenario().one("ConfigMap", "client")["data"]
    asked = Asked({})
    JobEnvironment.read(asked)
    ours = {name for name in asked.names if name.startswith("TRAINYARD_")}
    said = {entry["name"] for _, spec in training_containers() for entry in spec["env"]} | set(client)
    said = {name for name in said if name.startswith("TRAINYARD_")}
    assert said - ours == FOR_INFORMATION | OF_THE_SHIPPER
    assert ours - said == set(OTHERS_SET)


@pytest.mark.parametrize(("name", "spec"), training_containers())
def test_the_trainer_understands_what_the_chart_sets(name: str, spec: Object) -> None:
    """Values too, in both containers: one that it refused would end every Job with 42."""
    client = Scenario().one("ConfigMap", "client")["data"]
    read = JobEnvironment.read({**client, **environment(spec)})
    assert read.tracking_uri == client["MLFLOW_TRACKING_URI"] and "mlflow" in read.tracking
    assert str(read.state_dir) == "/state" and read.image == environment(spec)["TRAINYARD_IMAGE"]
    if name == "trainer":
        assert read.shipper == "sidecar" and str(int(read.grace_s)) == environment(spec)["TRAINYARD_GRACE_S"]
        assert read.checkpoint_uri == environment(spec).get("TRAINYARD_CHECKPOINT_URI")


def test_client_contract() -> None:
    """The ConfigMap and the Secret of the same name, which any pod may take by envFrom."""
    scenario = Scenario(values={"client": {"wandbBaseUrl": "https://wandb.example.com"}})
    assert scenario.one("ConfigMap", "client")["data"] == {
        "MLFLOW_TRACKING_URI": "http://trainyard-mlflow.ml.svc:5000",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRAINYARD_BUCKET": "mlflow",
        "TRAINYARD_S3_ENDPOINT_URL": "http://trainyard-objectstore.ml.svc:8333",
        "WANDB_BASE_URL": "https://wandb.example.com",
    }
    assert "WANDB_BASE_URL" not in Scenario().one("ConfigMap", "client")["data"]
    assert not secret_data(scenario.one("Secret", "client"))


def test_helm_test_uses_the_client_contract_alone() -> None:
    """What passes there works in any pod that takes both; it leaves nothing behind, whatever its end."""
    pod = Scenario().one("Pod", "test")
    spec = container(pod, "check-tracking")
    assert spec["envFrom"] == [
        {"configMapRef": {"name": "trainyard-client"}},
        {"secretRef": {"name": "trainyard-client"}},
    ]
    assert environment(spec) == {"HOME": "/tmp"} and not secret_keys(spec)
    script = Scenario().one("ConfigMap", "test")
    for hook in (pod, script):
        assert hook["metadata"]["annotations"]["helm.sh/hook"] == "test"
        policy = set(hook["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(","))
        assert policy == {"before-hook-creation", "hook-succeeded", "hook-failed"}
    compile(script["data"]["check_tracking.py"], "check_tracking.py", "exec")
    assert int(script["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0


@pytest.mark.parametrize(
    ("release", "prefix"),
    [
        ("trainyard", "trainyard"),
        ("my-trainyard-2", "my-trainyard-2"),
        ("team", "team-trainyard"),
        ("team.a", "team-a-trainyard"),
    ],
)
def test_objects_are_named_after_the_release(release: str, prefix: str) -> None:
    assert f"{prefix}-mlflow" in Scenario(release=release).names("Service")


def test_long_releases_do_not_share_names() -> None:
    """Two releases that differ only in the part that is cut off."""
    first, second = (Scenario(release="a-long-release-name-that-has-to-be-cut-somewhere-" + end) for end in "ab")
    assert not first.names("Service") & second.names("Service")
