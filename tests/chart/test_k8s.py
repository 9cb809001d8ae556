"""The manifests under k8s/: safe like the chart's objects, and with the same contract."""

import re
from pathlib import Path
from typing import Any

import policies
import pytest
import yaml
from manifests import CHART, ROOT, Object, Scenario, container, containers, environment, pod_spec
from scenarios import WANDB, WITHOUT_TRAINER
from trainyard.sweeps.file import read_sweep

ALL = sorted((ROOT / "k8s").glob("*.yaml"))
MANIFESTS = [path for path in ALL if path.stem not in WITHOUT_TRAINER]
VOLUME = {"size": "2Gi"}
SAME: dict[str, dict[str, Any]] = {
    "01-train-digits": {},
    "02-resume-after-preemption": {"checkpoint": VOLUME},
    "03-train-ddp-two-pods": {"nodes": 2, "checkpoint": {**VOLUME, "accessMode": "ReadWriteOnce"}},
    "04-finetune-lora-gpu": {"gpus": 1},
    "10-sweep-wandb": {
        "workers": 3,
        "checkpoint": {**VOLUME, "accessMode": "ReadWriteOnce"},
        "envFromSecrets": ["wandb"],
    },
    "11-sweep-optuna": {"workers": 4, "checkpoint": {**VOLUME, "accessMode": "ReadWriteOnce"}},
}
"""What each file does, said in values of the chart."""
CHOSEN = {"imagePullPolicy", "resources", "image", "args", "command"}
"""Keys of a container that a file may choose for itself."""

SWEEPS = [path for path in MANIFESTS if "sweep" in path.stem]

each_sweep = pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
each_manifest = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)


def load(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def of_kind(kind: str, objects: list[Object]) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def chart(path: Path) -> Scenario:
    """The chart with a Job or a sweep that does the same as the file."""
    keys = {"gracePeriodSeconds": 300, **SAME[path.stem]}
    if path in SWEEPS:
        return Scenario(values={"sweeps": {"demo": {**keys, "sweep": sweep_file(path)}}, **WANDB})
    return Scenario(values={"trainingJobs": {"demo": {"args": ["train", "digits"], **keys}}})


def sweep_file(path: Path) -> Any:
    """What the file's ConfigMap searches."""
    return yaml.safe_load(of_kind("ConfigMap", load(path))["data"]["sweep.yaml"])


def jobs(path: Path) -> tuple[Object, Object]:
    """The file's Job and the chart's."""
    return of_kind("Job", load(path)), of_kind("Job", chart(path).render())


@each_manifest
def test_manifests_are_as_safe_as_the_chart(path: Path) -> None:
    """Under restricted Pod Security, init containers too."""
    objects = load(path)
    policies.check_valid(objects)
    policies.check_restricted(objects)
    policies.check_no_api_token(objects)
    policies.check_resources(objects)
    policies.check_scratch_space(objects)


@each_manifest
def test_manifests_name_the_charts_images(path: Path) -> None:
    """Those of this version, so that they run as they are where the chart does; one image for both containers."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    wanted = "trainyard/trainer-cuda" if "gpus" in SAME[path.stem] else "trainyard/trainer"
    for where, spec in containers(load(path)):
        assert spec["image"] == environment(spec)["TRAINYARD_IMAGE"] == f"{wanted}:{version}", where


def variables(*specs: Object) -> dict[str, Object]:
    """Variables of one or more containers by name, but for those that hold names of the file's own."""
    found = {entry["name"]: entry for spec in specs for entry in spec["env"]}
    return {name: entry for name, entry in found.items() if name not in {"TRAINYARD_IMAGE", "MASTER_ADDR"}}


def contract(spec: Object) -> dict[str, Any]:
    """All of a container that is no choice, but for its environment."""
    mounts = sorted(spec["volumeMounts"], key=lambda mount: str(mount["mountPath"]))
    return {**{key: value for key, value in spec.items() if key not in {*CHOSEN, "env"}}, "volumeMounts": mounts}


@each_manifest
def test_the_environment_is_the_charts(path: Path) -> None:
    """Both containers get what the chart gives to either: each reads its own, and the file is shorter."""
    ours, charts = ([container(job, name) for name in ("trainer", "shipper")] for job in jobs(path))
    for spec in ours:
        assert variables(spec) == variables(*charts), spec["name"]


@each_manifest
def test_the_containers_are_the_charts(path: Path) -> None:
    """Rights, folders and the client contract; arguments and resources are the file's own."""
    ours, charts = jobs(path)
    assert [c["name"] for c in pod_spec(ours)["initContainers"]] == ["shipper"]
    assert container(ours, "shipper")["args"] == container(charts, "shipper")["args"]
    assert container(ours, "shipper")["resources"] == container(charts, "shipper")["resources"]
    assert contract(container(ours, "shipper")) == contract(container(charts, "shipper"))
    trainer = contract(container(charts, "trainer"))
    if "gpus" not in SAME[path.stem]:  # one process on CPUs needs no shared memory
        trainer["volumeMounts"] = [mount for mount in trainer["volumeMounts"] if mount["name"] != "shm"]
    assert contract(container(ours, "trainer")) == trainer


@each_manifest
def test_failures_count_as_in_the_chart(path: Path) -> None:
    ours, charts = jobs(path)
    limits = {"podFailurePolicy", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes"}
    assert {key: ours["spec"].get(key) for key in limits} == {key: charts["spec"].get(key) for key in limits}


@each_manifest
def test_the_pods_are_the_charts(path: Path) -> None:
    """Volumes are of the same kind, and each container gives up in time before it is killed."""
    job_ours, job_charts = jobs(path)
    ours, charts = pod_spec(job_ours), pod_spec(job_charts)
    mounted = {mount["name"] for mount in container(job_ours, "trainer")["volumeMounts"]} | {"shipper-tmp"}
    kinds = {volume["name"]: set(volume) - {"name"} for volume in charts["volumes"] if volume["name"] in mounted}
    assert {volume["name"]: set(volume) - {"name"} for volume in ours["volumes"]} == kinds
    assert ours["securityContext"].items() <= charts["securityContext"].items()
    for key in ("restartPolicy", "terminationGracePeriodSeconds", "tolerations"):
        assert ours.get(key) == charts.get(key), key


@each_manifest
def test_volumes_are_the_charts(path: Path) -> None:
    """The same size and access mode, and the Job's pods use it."""
    ours = [each for each in load(path) if each["kind"] == "PersistentVolumeClaim"]
    charts = [each for each in chart(path).kind("PersistentVolumeClaim") if "demo" in each["metadata"]["name"]]
    assert [each["spec"] for each in ours] == [each["spec"] for each in charts]
    (state,) = [volume for volume in pod_spec(jobs(path)[0])["volumes"] if volume["name"] == "state"]
    assert [each["metadata"]["name"] for each in ours] == [
        *([state["persistentVolumeClaim"]["claimName"]] if "persistentVolumeClaim" in state else [])
    ]


def test_two_pods_meet_as_the_charts_do() -> None:
    """Launcher, ranks, and the name of the first pod."""
    (path,) = [path for path in MANIFESTS if "ddp" in path.name]
    ours, charts = jobs(path)
    for key in ("completionMode", "completions", "parallelism"):
        assert ours["spec"][key] == charts["spec"][key], key
    launcher = container(charts, "trainer")["command"]
    assert ["trainyard", *container(ours, "trainer")["args"]][: len(launcher)] == launcher
    service = of_kind("Service", load(path))
    (charts_service,) = [each for each in chart(path).kind("Service") if each["metadata"]["name"].endswith("-nodes")]
    for key in ("clusterIP", "publishNotReadyAddresses"):
        assert service["spec"][key] == charts_service["spec"][key], key
    assert service["spec"]["selector"].items() <= ours["spec"]["template"]["metadata"]["labels"].items()
    assert pod_spec(ours)["subdomain"] == service["metadata"]["name"]
    first = f"{ours['metadata']['name']}-0.{service['metadata']['name']}"
    assert environment(container(ours, "trainer"))["MASTER_ADDR"] == first


def test_a_gpu_is_a_limit() -> None:
    (path,) = [path for path in MANIFESTS if "gpu" in path.name]
    ours, charts = jobs(path)
    for job in (ours, charts):
        assert container(job, "trainer")["resources"]["limits"]["nvidia.com/gpu"] == 1


@each_manifest
def test_labels_select_what_the_header_says(path: Path) -> None:
    """The commands of a header name this file, this Job and its pods."""
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    job = of_kind("Job", load(path))
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert job["metadata"]["labels"] == labels
    assert labels["trainyard.dev/kind"] == ("sweep" if path in SWEEPS else "training")
    assert set(re.findall(r"-f k8s/(\S+)", header)) == {path.name}
    assert set(re.findall(r"job/(\S+)", header)) <= {job["metadata"]["name"]}
    assert set(re.findall(r"--container (\S+)", header)) <= {"trainer", "shipper"}
    assert set(re.findall(r"trainyard\.dev/name=([a-z-]+)", header)) <= {labels["trainyard.dev/name"]}


@each_sweep
def test_sweeps_have_the_workers_of_the_charts(path: Path) -> None:
    """The same number, told apart by index, with the file of the ConfigMap; all of them on the one volume."""
    ours, charts = jobs(path)
    for key in ("completionMode", "completions", "parallelism"):
        assert ours["spec"][key] == charts["spec"][key], key
    assert ["trainyard", *container(ours, "trainer")["args"]] == container(charts, "trainer")["command"]
    (mounted,) = [volume for volume in pod_spec(ours)["volumes"] if volume["name"] == "sweep"]
    assert mounted["configMap"]["name"] == of_kind("ConfigMap", load(path))["metadata"]["name"]


@each_sweep
def test_sweeps_search_what_the_task_has(path: Path, tmp_path: Path) -> None:
    """The trainer takes the file; each parameter is a key of the task, and the sweep's name says whose it is."""
    file = tmp_path / "sweep.yaml"
    file.write_text(of_kind("ConfigMap", load(path))["data"]["sweep.yaml"])
    sweep = read_sweep(file)
    assert path.stem.endswith(sweep.backend) and sweep.name.endswith(sweep.backend)
    assert sweep.program[:3] == ("trainyard", "train", "digits")
    keys = (ROOT / "trainer/src/trainyard/tasks/digits/config.py").read_text()
    for name in sweep.parameters:
        assert re.search(rf"^    {name.rpartition('.')[2]}: Annotated", keys, re.MULTILINE), name


def test_optuna_ends_trials_after_whole_rounds() -> None:
    """Rounds of 3, 9 and 27 epochs, the last of which is a whole trial's: what the header says is saved depends on it."""
    sweep = sweep_file(next(path for path in SWEEPS if "optuna" in path.stem))
    stop, (epochs,) = sweep["early_terminate"], re.findall(r"epochs=(\d+)", " ".join(sweep["program"]))
    assert stop["min_iter"] * stop["eta"] ** 2 == stop["max_iter"] == int(epochs)


def test_every_manifest_is_listed() -> None:
    listed = re.findall(r"^\| \[(\S+)\]\((\S+)\) \|", (ROOT / "k8s/README.md").read_text(), re.MULTILINE)
    assert listed == [(path.name, path.name) for path in ALL]
    assert [path.stem for path in MANIFESTS] == list(SAME)
