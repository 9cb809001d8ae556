"""The manifests under k8s/: safe like the chart's objects, and with the same contract."""

from pathlib import Path
from typing import Any

import policies
import pytest
import yaml
from manifests import CHART, ROOT, Object, Scenario, container, containers, environment, pod_spec

MANIFESTS = sorted((ROOT / "k8s").glob("*.yaml"))
NO_CONTRACT = {"imagePullPolicy", "resources"}
"""Keys of a container that the two may choose for themselves."""


def load(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def digits() -> tuple[Object, Object]:
    """The Job that trains digits: the manifest's and the small profile's."""
    (by_hand,) = load(ROOT / "k8s" / "01-train-digits.yaml")
    (by_chart,) = Scenario(profile=CHART / "profiles" / "small.yaml").kind("Job")
    return by_hand, by_chart


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_as_safe_as_the_chart(path: Path) -> None:
    """Under restricted Pod Security, init containers too."""
    objects = load(path)
    policies.check_valid(objects)
    policies.check_restricted(objects)
    policies.check_no_api_token(objects)
    policies.check_resources(objects)
    policies.check_scratch_space(objects)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_name_the_charts_images(path: Path) -> None:
    """Those of this version, so that they run as they are where the chart does."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    for where, spec in containers(load(path)):
        assert spec["image"].endswith(f":{version}"), where


def contract(spec: Object) -> dict[str, Any]:
    """All of a container that is no choice, with its variables by name."""
    chosen = {key: value for key, value in spec.items() if key not in NO_CONTRACT}
    return {**chosen, "env": {entry["name"]: entry for entry in spec["env"]}}


def test_the_shipper_is_the_charts() -> None:
    by_hand, by_chart = digits()
    assert [c["name"] for c in pod_spec(by_hand)["initContainers"]] == ["shipper"]
    ours, charts = container(by_hand, "shipper"), container(by_chart, "shipper")
    assert contract(ours) == contract(charts)
    assert ours["resources"] == charts["resources"]


def test_the_trainer_has_the_charts_contract() -> None:
    """Environment, rights and folders; arguments are the manifest's own, and one process needs no shared memory."""
    ours, charts = (contract(container(job, "trainer")) for job in digits())
    charts["volumeMounts"] = [mount for mount in charts["volumeMounts"] if mount["name"] != "shm"]
    for spec in (ours, charts):
        del spec["args"]
    assert ours == charts


def test_the_pods_are_the_charts() -> None:
    """Failures count alike, volumes are of the same kind, and the shipper gives up before it is killed."""
    by_hand, by_chart = digits()
    assert by_hand["spec"]["podFailurePolicy"] == by_chart["spec"]["podFailurePolicy"]
    ours, charts = pod_spec(by_hand), pod_spec(by_chart)
    kinds = {volume["name"]: set(volume) - {"name"} for volume in charts["volumes"] if volume["name"] != "shm"}
    assert {volume["name"]: set(volume) - {"name"} for volume in ours["volumes"]} == kinds
    assert ours["securityContext"].items() <= charts["securityContext"].items()
    assert ours["restartPolicy"] == charts["restartPolicy"]
    left = int(environment(container(by_hand, "shipper"))["TRAINYARD_SHIP_GRACE_S"])
    assert left == ours["terminationGracePeriodSeconds"] - 5
