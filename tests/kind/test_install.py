"""A fresh installation: everything ready, nothing privileged, and what each part may reach."""

from __future__ import annotations

import json

import pytest
from local_cluster.errors import CommandError
from local_cluster.settings import NAMESPACE, RELEASE

from tests.kind.platform import Platform


def test_a_fresh_install_becomes_ready(platform: Platform) -> None:
    platform.wait_ready()
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in platform.objects("pods", f"app.kubernetes.io/instance={RELEASE}")
        for status in pod["status"].get("containerStatuses", [])
    }
    print(f"helm install to all ready: {platform.install_s:.0f} s")
    assert not any(restarts.values()), f"containers restarted on the way: {restarts}"


def test_helm_test_logs_a_run_and_brings_an_artifact_back(platform: Platform) -> None:
    assert "Succeeded" in platform.helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout=120s")


def test_a_privileged_pod_is_refused_in_the_namespace(platform: Platform) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged"},
        "spec": {"containers": [{"name": "main", "image": "any", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(CommandError, match="violates PodSecurity"):
        platform.apply(pod)


def test_each_database_opens_to_its_own_role_alone(platform: Platform) -> None:
    for role in ("mlflow", "mlflow_auth", "optuna"):
        allowed = platform.sql(
            f"SELECT datname FROM pg_database WHERE has_database_privilege('{role}', datname, 'CONNECT') "
            "AND NOT datistemplate AND datname <> 'postgres'"
        )
        assert allowed == [[role]]


def test_no_password_is_to_be_read_in_pod_specs_or_configmaps(platform: Platform) -> None:
    secrets = {
        value
        for secret in platform.objects("secrets", f"app.kubernetes.io/instance={RELEASE}")
        for key, value in platform.secret(secret["metadata"]["name"]).items()
        if "password" in key or "secret" in key
    }
    assert secrets
    readable = json.dumps([platform.objects(kind) for kind in ("pods", "configmaps", "events", "jobs", "deployments")])
    assert not [value for value in secrets if value in readable]


def test_a_stranger_gets_no_object_from_the_store(platform: Platform) -> None:
    probe = "import urllib.request as r, os; r.urlopen(os.environ['TRAINYARD_S3_ENDPOINT_URL'] + '/' + os.environ['TRAINYARD_BUCKET'])"
    platform.client_pod("stranger", ["python3", "-c", probe])
    assert platform.pod_end("stranger") == "Failed"
    assert "403" in platform.kubectl("logs", "stranger")
    platform.kubectl("delete", "pod", "stranger", "--wait=false")
