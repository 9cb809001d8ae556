"""The manifests of Ray: as safe as the chart's objects, and what Kubernetes and KubeRay take."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import policies
import pytest
import yaml
from manifests import CHART, ROOT, Object, container, containers, environment, pod_spec

RAY = ROOT / "k8s/12-sweep-ray.yaml"
RAYJOB = ROOT / "k8s/13-rayjob-kuberay.yaml"
RESUME = ROOT / "k8s/02-resume-after-preemption.yaml"
SCHEMA = json.loads((Path(__file__).parent / "schemas/rayjob.json").read_text())
DOCKERFILE = (ROOT / "images/ray/Dockerfile").read_text()

each_file = pytest.mark.parametrize("path", [RAY, RAYJOB], ids=lambda path: path.stem)


def load(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def of_kind(kind: str, path: Path) -> Object:
    (found,) = [each for each in load(path) if each["kind"] == kind]
    return found


def ray_pods(rayjob: Object) -> Iterator[Object]:
    """The templates that KubeRay makes pods of, each as a Pod."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        name = group.get("groupName", "head")
        template = copy.deepcopy(group["template"])
        template["metadata"]["name"] = name
        yield {"apiVersion": "v1", "kind": "Pod", **template}


def objects(path: Path) -> list[Object]:
    """With the pods of a RayJob in its place."""
    plain = [each for each in load(path) if each["kind"] != "RayJob"]
    return plain + [pod for each in load(path) if each["kind"] == "RayJob" for pod in ray_pods(each)]


@each_file
def test_manifests_are_as_safe_as_the_chart(path: Path) -> None:
    made = objects(path)
    policies.check_valid(made)
    policies.check_restricted(made)
    policies.check_no_api_token(made)
    policies.check_resources(made)
    policies.check_scratch_space(made)


def test_kuberay_takes_the_rayjob() -> None:
    jsonschema.validate(of_kind("RayJob", RAYJOB), SCHEMA)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "shutdownAfterJobFinished"), True),
        (("spec", "suspend"), "no"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "replica"), 2),
    ],
)
def test_the_schema_sees_mistakes(place: tuple[Any, ...], value: object) -> None:
    rayjob = of_kind("RayJob", RAYJOB)
    part: Any = rayjob
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(rayjob, SCHEMA)


def test_a_rayjob_ends_its_cluster_and_can_be_queued() -> None:
    rayjob = of_kind("RayJob", RAYJOB)
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True
    assert rayjob["spec"]["suspend"] is False and "kueue.x-k8s.io/queue-name" in rayjob["metadata"]["labels"]
    (head, worker) = ray_pods(rayjob)
    assert container(worker, "ray-worker")["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "--gpus 1" in rayjob["spec"]["entrypoint"]
    assert "nvidia.com/gpu" not in container(head, "ray-head")["resources"]["limits"]


def test_ray_is_of_the_version_that_the_image_has() -> None:
    lock = (ROOT / "images/ray/requirements.txt").read_text()
    (locked,) = re.findall(r"^ray==(\S+)", lock, re.MULTILINE)
    assert of_kind("RayJob", RAYJOB)["spec"]["rayClusterSpec"]["rayVersion"] == locked


def test_the_lock_adds_to_the_trainers_and_changes_nothing_of_it() -> None:
    names = [
        set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / f"images/{image}/requirements.txt").read_text(), re.MULTILINE))
        for image in ("trainer", "ray")
    ]
    assert names[0] and names[1] and not names[0] & names[1]


@each_file
def test_the_image_is_of_this_version(path: Path) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    wanted = {RAY: "trainyard/ray", RAYJOB: "trainyard/ray-cuda"}[path]
    for where, spec in containers(objects(path)):
        assert spec["image"] == environment(spec)["TRAINYARD_IMAGE"] == f"{wanted}:{version}", where


@each_file
def test_the_program_is_in_the_image(path: Path) -> None:
    said = path.read_text()
    (program,) = set(re.findall(r"/opt/trainyard/(examples/\S+?\.py)", said))
    assert (ROOT / "trainer" / program).is_file()
    assert f"COPY trainer/{Path(program).parent} /opt/trainyard/{Path(program).parent}" in DOCKERFILE


def test_the_job_is_that_of_02_with_rays_image_and_program() -> None:
    """Shipper, environment, volumes and how failures count."""
    ours, plain = of_kind("Job", RAY), of_kind("Job", RESUME)
    for key in ("backoffLimit", "podFailurePolicy"):
        assert ours["spec"][key] == plain["spec"][key], key
    for key in ("restartPolicy", "terminationGracePeriodSeconds", "securityContext"):
        assert pod_spec(ours)[key] == pod_spec(plain)[key], key
    for name in ("shipper", "trainer"):
        one, other = container(ours, name), container(plain, name)
        assert without_image(one["env"]) == without_image(other["env"])
        assert one["envFrom"] == other["envFrom"] and one["securityContext"] == other["securityContext"]
        assert [each for each in one["volumeMounts"] if each["name"] != "shm"] == other["volumeMounts"]
    assert container(ours, "shipper")["args"] == container(plain, "shipper")["args"]
    claims = [of_kind("PersistentVolumeClaim", path)["spec"] for path in (RAY, RESUME)]
    assert claims[0] == claims[1]


def without_image(variables: list[Object]) -> list[Object]:
    return [each for each in variables if each["name"] != "TRAINYARD_IMAGE"]


@each_file
def test_what_a_header_names_is_there(path: Path) -> None:
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    (main,) = [each for each in load(path) if each["kind"] in ("Job", "RayJob")]
    name = main["metadata"]["labels"]["trainyard.dev/name"]
    assert main["metadata"]["labels"]["trainyard.dev/kind"] == "sweep"
    assert set(re.findall(r"-f k8s/(\S+)", header)) == {path.name}
    assert set(re.findall(r"\b(?:ray)?job/(\S+)", header)) == {main["metadata"]["name"]}
    assert set(re.findall(r"trainyard\.dev/name=([a-z-]+)", header)) == {name}
    for pod in objects(path):
        if pod["kind"] in ("Job", "Pod"):
            labels = (pod["spec"]["template"] if pod["kind"] == "Job" else pod)["metadata"]["labels"]
            assert labels["trainyard.dev/name"] == name
