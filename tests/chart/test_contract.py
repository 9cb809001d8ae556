"""What others build on: objects' names, the client contract, and the `helm test` that holds it."""

import pytest
from manifests import Scenario, container, environment, secret_data, secret_keys


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
