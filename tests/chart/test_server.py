"""The tracking server: what it is told, whom it answers, when it is ready and how it stops."""

import fnmatch
from typing import Any

import pytest
from manifests import NAMESPACE, Scenario, container, environment, pod_spec, server
from scenarios import EXISTING_SECRETS, EXTERNAL


def test_settings_that_were_measured() -> None:
    """The pool that cannot deadlock, and none of the parts that cost memory or call home."""
    env = environment(server(Scenario()))
    assert int(env["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"]) + int(env["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"]) == 41
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert env["MLFLOW_ENABLE_AI_GATEWAY"] == "false"
    assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_arguments_say_port_and_workers() -> None:
    """An explicit port: a Service called mlflow would otherwise give the server a MLFLOW_PORT it cannot read."""
    args = server(Scenario(values={"mlflow": {"workers": 3}}))["args"]
    expected = ["--host=0.0.0.0", "--port=5000", "--workers=3", "--artifacts-destination=s3://mlflow/artifacts"]
    assert args == ["server", *expected]


def test_client_address_is_a_host_the_server_answers() -> None:
    """What the client ConfigMap says reaches a Service whose host header passes."""
    scenario = Scenario(release="team")
    uri = scenario.one("ConfigMap", "client")["data"]["MLFLOW_TRACKING_URI"]
    assert uri == f"http://team-trainyard-mlflow.{NAMESPACE}.svc:5000"
    assert answers(scenario, uri.removeprefix("http://"))


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("trainyard-mlflow", True),
        ("trainyard-mlflow:5000", True),
        ("trainyard-mlflow.ml:5000", True),
        ("trainyard-mlflow.ml.svc:5000", True),
        ("trainyard-mlflow.ml.svc.cluster.local", True),
        ("trainyard-mlflow.ml.svc.cluster.local:5000", True),
        ("localhost:12345", True),
        ("127.0.0.1:5000", True),
        ("10.244.0.7:5000", True),
        ("172.18.0.2:30500", True),
        ("mlflow.example.com", True),
        ("10.evil.example", False),
        ("trainyard-mlflow.ml.svc.evil.example:5000", False),
        ("example.com", False),
    ],
)
def test_allowed_hosts(host: str, answered: bool) -> None:
    """The Service by all its names, port-forwards, the pod and its node; no name that an attacker can register."""
    assert answers(Scenario(values={"mlflow": {"extraAllowedHosts": ["mlflow.example.com"]}}), host) is answered


def answers(scenario: Scenario, host: str) -> bool:
    """MLflow 3.17's rule, with the IPs that the kubelet would fill in."""
    allowed = environment(server(scenario))["MLFLOW_SERVER_ALLOWED_HOSTS"]
    allowed = allowed.replace("$(TRAINYARD_POD_IP)", "10.244.0.7").replace("$(TRAINYARD_NODE_IP)", "172.18.0.2")
    return any(fnmatch.fnmatch(host, pattern) if "*" in pattern else host == pattern for pattern in allowed.split(","))


def test_ips_are_known_before_the_list_uses_them() -> None:
    """The kubelet expands $(NAME) only for variables that stand further up."""
    names = [variable["name"] for variable in server(Scenario())["env"]]
    assert max(names.index("TRAINYARD_POD_IP"), names.index("TRAINYARD_NODE_IP")) < names.index(
        "MLFLOW_SERVER_ALLOWED_HOSTS"
    )


def test_pages_under_extra_hosts_may_write() -> None:
    """Browsers send Origin with each POST of the UI."""
    env = environment(server(Scenario(values={"mlflow": {"extraAllowedHosts": ["mlflow.example.com"]}})))
    assert env["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "https://mlflow.example.com,http://mlflow.example.com"
    assert "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS" not in environment(server(Scenario()))


def test_readiness_reads_the_database_and_liveness_does_not() -> None:
    spec = server(Scenario())
    assert spec["livenessProbe"]["httpGet"]["path"] == "/health" == spec["startupProbe"]["httpGet"]["path"]
    readiness = spec["readinessProbe"]["httpGet"]
    assert readiness["path"] == "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert [
        answers(Scenario(), header["value"]) for header in readiness["httpHeaders"] if header["name"] == "Host"
    ] == [True]


def test_startup_outlasts_the_servers_own_wait_for_the_database() -> None:
    """The server gives up after 104 s by itself, with a message; the probe must not be faster."""
    probe = server(Scenario())["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > 120


def test_stop_leaves_time_for_the_sleep_and_the_uploads() -> None:
    deployment = Scenario(values={"mlflow": {"gracePeriodSeconds": 100}}).one("Deployment", "mlflow")
    sleep: int = container(deployment, "mlflow")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod_spec(deployment)["terminationGracePeriodSeconds"] == 100 + sleep


def test_one_version_at_a_time() -> None:
    """No old server beside a migrated schema."""
    assert Scenario().one("Deployment", "mlflow")["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("values", "steps"),
    [({}, ["bucket", "migrate"]), (EXISTING_SECRETS, ["bucket", "migrate"]), (EXTERNAL, ["migrate"])],
)
def test_steps_before_the_server(values: dict[str, Any], steps: list[str]) -> None:
    """The schema is always migrated; only the embedded store gets its bucket made."""
    deployment = Scenario(values=values).one("Deployment", "mlflow")
    assert [(c["name"], c["command"]) for c in pod_spec(deployment)["initContainers"]] == [
        (s, [f"trainyard-{s}"]) for s in steps
    ]
