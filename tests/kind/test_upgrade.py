"""Upgrades, and the end: what changes, what stays, and what an uninstalled release leaves."""

from __future__ import annotations

import re
from typing import Any

from local_cluster.settings import NAMESPACE, RELEASE, REPOSITORY

from tests.kind.platform import Platform

SECRETS = tuple(f"{RELEASE}-{name}" for name in ("postgres", "objectstore", "mlflow", "optuna"))


def readme_commands(start: str) -> list[str]:
    """The lines of the README's code block that begins with `start`."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(start)]
    return [line for line in block.splitlines() if line]


def uids(platform: Platform, kind: str) -> dict[str, str]:
    """Name -> uid of the release's objects of a kind."""
    selector = f"app.kubernetes.io/instance={RELEASE}"
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in platform.objects(kind, selector)}


def test_an_unchanged_upgrade_touches_nothing(platform: Platform) -> None:
    pods, jobs = uids(platform, "pods"), uids(platform, "jobs")
    secrets = {name: platform.secret(name) for name in SECRETS}
    runs = len(platform.runs("digits"))
    platform.upgrade()
    assert uids(platform, "jobs") == jobs
    assert uids(platform, "pods") == pods
    assert {name: platform.secret(name) for name in SECRETS} == secrets, "passwords must survive an upgrade"
    assert len(platform.runs("digits")) == runs


def test_a_changed_job_runs_anew_and_the_rest_stays(platform: Platform) -> None:
    (old,) = platform.training_jobs()
    servers = uids(platform, "pods").keys() - {name for name in uids(platform, "pods") if name.startswith(old)}
    platform.upgrade("--set-string", "trainingJobs.train-digits.env.OMP_NUM_THREADS=1")
    (new,) = platform.training_jobs()
    assert new != old
    assert platform.job_end(new) == "Complete"
    assert platform.run_of_job(new)["info"]["status"] == "FINISHED"
    assert servers <= uids(platform, "pods").keys()
    platform.upgrade()


def test_a_wrong_value_is_refused_before_anything_changes(platform: Platform) -> None:
    before: dict[str, Any] = {kind: uids(platform, kind) for kind in ("pods", "jobs", "secrets", "services")}
    try:
        platform.upgrade("--set", "mlflow.replicsa=2")
    except Exception as refused:
        assert "replicsa" in str(refused)
    else:
        raise AssertionError("an unknown value was accepted")
    assert {kind: uids(platform, kind) for kind in before} == before


def test_uninstall_leaves_the_volumes_and_the_readme_s_install_takes_them_up(platform: Platform) -> None:
    run_ids = {run["info"]["run_id"] for run in platform.runs("digits")}
    objects = platform.s3_objects()
    platform.kubectl(
        "delete", "jobs", "--selector=!app.kubernetes.io/instance"
    )  # a researcher's own, not the release's
    platform.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
    platform.wait_for("the pods to go", lambda: not uids(platform, "pods"))
    everything = "all,configmaps,secrets,serviceaccounts,persistentvolumeclaims,networkpolicies,poddisruptionbudgets,roles,rolebindings"
    left = {f"{each['kind']}/{each['metadata']['name']}" for each in platform.objects(everything)}
    ignored = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
    assert {name.split("/")[0] for name in left - ignored} == {"PersistentVolumeClaim"}, left
    for command in readme_commands("helm install"):
        platform.shell(command)
        platform.wait_ready()
    assert run_ids <= {run["info"]["run_id"] for run in platform.runs("digits")}, "runs must outlive the release"
    assert objects.items() <= platform.s3_objects().items(), "artifacts must outlive the release"
