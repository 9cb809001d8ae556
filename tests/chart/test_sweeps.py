"""Sweeps: what their workers run and are given, and when an upgrade makes a new Job."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import CHART, ROOT, Object, Scenario, container, environment, pod_spec, pod_template
from scenarios import BIG_JOB, BIG_SWEEP, EXTERNAL, SWEEP_FILE, WANDB
from trainyard.sweeps.file import read_sweep
from trainyard.sweeps.sweep import Choice, Objective, Range

PLAIN: dict[str, Any] = {"sweep": SWEEP_FILE}
OF_WANDB: dict[str, Any] = {"sweep": {**SWEEP_FILE, "backend": "wandb", "method": "bayes"}, "envFromSecrets": ["wandb"]}
COMMAND = ["trainyard", "sweep", "run", "/sweep/sweep.yaml"]


def scenario(sweep: dict[str, Any], **values: Any) -> Scenario:
    return Scenario(values={"sweeps": {"demo": sweep}, **WANDB, **values})


def render(sweep: dict[str, Any], **values: Any) -> Object:
    """The one Job of these values."""
    (found,) = scenario(sweep, **values).kind("Job")
    return found


def name(sweep: dict[str, Any], **values: Any) -> str:
    found: str = render(sweep, **values)["metadata"]["name"]
    return found


def training(job: dict[str, Any]) -> Object:
    """A training Job of these values."""
    (found,) = Scenario(values={"trainingJobs": {"demo": job}}).kind("Job")
    return found


def file(sweep: dict[str, Any]) -> str:
    """The sweep file, as the Job's pods find it."""
    (mounted,) = [v for v in pod_spec(render(sweep))["volumes"] if v["name"] == "sweep"]
    text: str = scenario(sweep).one("ConfigMap", mounted["configMap"]["name"])["data"]["sweep.yaml"]
    return text


def secrets(spec: Object) -> set[str]:
    """Names of the Secrets all of whose keys a container gets."""
    return {source["secretRef"]["name"] for source in spec["envFrom"] if "secretRef" in source}


def without_names(node: Any) -> Any:
    """Of a Job's spec, all that does not say whose it is or how many there are."""
    if isinstance(node, dict):
        apart = {"trainyard.dev/kind", "app.kubernetes.io/component", "completions", "parallelism"}
        return {key: without_names(value) for key, value in node.items() if key not in apart}
    return [without_names(each) for each in node] if isinstance(node, list) else node


def test_no_sweep_by_default() -> None:
    assert Scenario().values == {} and Scenario().kind("Job") == []


def test_it_is_a_training_job_of_another_command() -> None:
    """Shipper, rules for failures, volumes, rights, placement, queue: what a training Job has a sweep has."""
    keys = {key: value for key, value in BIG_SWEEP.items() if key in BIG_JOB}
    sweep = render({"sweep": SWEEP_FILE, "workers": 4, **keys})
    job = training({**keys, "nodes": 1, "command": COMMAND, "processesPerNode": 0})
    trainer, volumes = container(sweep, "trainer"), pod_spec(sweep)["volumes"]
    assert trainer["volumeMounts"].pop() == {"name": "sweep", "mountPath": "/sweep", "readOnly": True}
    assert trainer["envFrom"].pop() == {"secretRef": {"name": "trainyard-optuna"}}
    assert volumes.pop()["name"] == "sweep"
    assert without_names(sweep["spec"]) == without_names(job["spec"])
    ours, theirs = ({**each["metadata"]["labels"]} for each in (sweep, job))
    assert (ours.pop("trainyard.dev/kind"), theirs.pop("trainyard.dev/kind")) == ("sweep", "training")
    ours.pop("app.kubernetes.io/component"), theirs.pop("app.kubernetes.io/component")
    assert ours == theirs and ours["kueue.x-k8s.io/queue-name"] == "gpus"


@pytest.mark.parametrize("image", ["", "example.com/a:1"])
def test_workers_run_the_sweep(image: str) -> None:
    """Whatever the image's entrypoint is; nothing that trainingDefaults says of a training's command gets in between."""
    defaults = {"command": ["python3"], "args": ["train"], "nodes": 8, "processesPerNode": 4}
    spec = container(render({**PLAIN, "image": image, "gpus": 2}, trainingDefaults=defaults), "trainer")
    assert spec["command"] == COMMAND and "args" not in spec
    assert spec["resources"]["limits"]["nvidia.com/gpu"] == 2 and "MASTER_ADDR" not in environment(spec)


@pytest.mark.parametrize(
    ("keys", "parallelism", "completions", "arguments"),
    [
        ({}, 1, 1, []),
        ({"workers": 4}, 4, 4, []),
        ({"workers": 4, "trialsPerWorker": 0}, 4, 4, []),
        ({"workers": 4, "trialsPerWorker": 3}, 4, 7, ["--trials-per-worker", "3"]),
        ({"workers": 4, "trialsPerWorker": 5}, 4, 4, ["--trials-per-worker", "5"]),
        ({"workers": 8, "trialsPerWorker": 20}, 8, 8, ["--trials-per-worker", "20"]),
        ({"trialsPerWorker": 1}, 1, 20, ["--trials-per-worker", "1"]),
        (
            {"trialsPerWorker": 6, "sweep": {**{k: v for k, v in SWEEP_FILE.items() if k != "trials"}, "run_cap": 13}},
            1,
            3,
            ["--trials-per-worker", "6"],
        ),
    ],
)
def test_workers_and_their_successors(
    keys: dict[str, Any], parallelism: int, completions: int, arguments: list[str]
) -> None:
    """So many at a time, and as many in all as the trials need; all have an index, by which they know the first."""
    job = render({**PLAIN, **keys})
    assert job["spec"]["completionMode"] == "Indexed"
    assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (parallelism, completions)
    assert container(job, "trainer")["command"] == [*COMMAND, *arguments]


def test_failures_of_all_workers_are_counted_together() -> None:
    """A program that always fails ends the Job soon, however many workers there are."""
    spec = render({**PLAIN, "workers": 8, "retries": 2})["spec"]
    assert spec["backoffLimit"] == 2 and not {"backoffLimitPerIndex", "maxFailedIndexes"} & set(spec)
    assert spec["podFailurePolicy"] == training({"args": ["train"]})["spec"]["podFailurePolicy"]


def test_labels_of_job_and_pods() -> None:
    job = render(PLAIN)
    template = pod_template(job)
    assert template is not None
    for labels in (job["metadata"]["labels"], template["metadata"]["labels"]):
        assert (labels["trainyard.dev/kind"], labels["trainyard.dev/name"]) == ("sweep", "demo")
        assert labels["app.kubernetes.io/component"] == "sweep"


def test_the_trainer_reads_the_file(tmp_path: Path) -> None:
    """Helm writes small and large numbers in its own way, and the sweep's name is the entry's where it has none."""
    parameters = {
        **SWEEP_FILE["parameters"],
        "tiny": {"distribution": "uniform", "min": 1e-7, "max": 1},
        "large": {"distribution": "int_uniform", "min": 1000000, "max": 12345678901},
        "word": {"values": ["1e-05", "on", "a: b"]},
        "fixed": {"value": True},
    }
    text = file({"sweep": {**SWEEP_FILE, "parameters": parameters, "seed": 7, "experiment": "digits"}})
    (tmp_path / "sweep.yaml").write_text(text)
    sweep = read_sweep(tmp_path / "sweep.yaml")
    assert (sweep.name, sweep.backend, sweep.trials, sweep.seed) == ("demo", "optuna", 20, 7)
    assert sweep.objectives == (Objective(name="validation/loss"),)
    assert sweep.parameters == {
        "lr": Range(low=0.00001, high=0.1, log=True),
        "model.channels": Choice(values=(8, 16, 32)),
        "model.dropout": Range(low=0.0, high=0.5),
        "tiny": Range(low=1e-7, high=1.0),
        "large": Range(low=1000000, high=12345678901, integer=True),
        "word": Choice(values=("1e-05", "on", "a: b")),
    }
    assert sweep.constants == {"fixed": True} and sweep.program == tuple(SWEEP_FILE["program"])


def test_every_word_of_the_schema_is_one_of_the_files(tmp_path: Path) -> None:
    """What the chart lets through the trainer takes, so that no sweep is refused only when its pods run."""
    full = {
        **SWEEP_FILE,
        "description": "All keys.",
        "backend": "optuna",
        "method": "tpe",
        "early_terminate": {"type": "hyperband", "max_iter": 27, "eta": 3, "s": 2},
        "constraints": [{"metric": "model/parameters", "max": 100000, "min": 1}],
        "seed": 1,
        "max_failed": 2,
        "heartbeat_s": 5,
        "experiment": "digits",
        "entity": "team",
        "project": "digits",
        "name": "own",
    }
    (tmp_path / "sweep.yaml").write_text(file({"sweep": full}))
    sweep = read_sweep(tmp_path / "sweep.yaml")
    assert sweep.name == "own" and sweep.early_stop is not None and sweep.early_stop.min_steps == 3
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["definitions"]["sweepFile"]
    assert set(schema["properties"]) == set(full) | {"command", "run_cap"}
    several = {**SWEEP_FILE, "method": "nsga2", "metric": [{"name": "a"}, {"name": "b", "goal": "maximize"}]}
    (tmp_path / "several.yaml").write_text(file({"sweep": several}))
    assert [each.goal for each in read_sweep(tmp_path / "several.yaml").objectives] == ["minimize", "maximize"]


def test_the_values_example_is_a_sweep(tmp_path: Path) -> None:
    """The one that values.yaml shows in a comment."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    begin = lines.index("#   sweeps:")
    text = "\n".join(line[4:] for line in lines[begin : lines.index("#", begin)])
    rendered = Scenario(values=yaml.safe_load(text))
    (job,) = rendered.kind("Job")
    assert job["spec"]["parallelism"] == 4
    (tmp_path / "sweep.yaml").write_text(
        next(c for c in rendered.kind("ConfigMap") if "sweep.yaml" in c["data"])["data"]["sweep.yaml"]
    )
    assert read_sweep(tmp_path / "sweep.yaml").name == "digits"


def test_optunas_database_is_the_workers_alone() -> None:
    """Neither the shipper nor a training Job gets to it; nor does a sweep of W&B."""
    job = render(PLAIN)
    assert secrets(container(job, "trainer")) == {"trainyard-client", "trainyard-optuna"}
    assert secrets(container(job, "shipper")) == {"trainyard-client"}
    wandb = render(OF_WANDB)
    assert secrets(container(wandb, "trainer")) == secrets(container(wandb, "shipper")) == {"trainyard-client", "wandb"}


def test_a_database_of_ones_own() -> None:
    """With an external Postgres, and in place of the embedded one's; a sweep of W&B, and one that is off, needs none."""
    own = {"optuna": {"existingSecret": "team-optuna"}}
    for values in (own, {**EXTERNAL, **own}):
        assert secrets(container(render(PLAIN, **values), "trainer")) == {"trainyard-client", "team-optuna"}
    assert render(OF_WANDB, **EXTERNAL)
    assert scenario({**PLAIN, "enabled": False}, **EXTERNAL).kind("Job") == []


def test_a_sweep_of_wandb_is_recorded_by_both() -> None:
    """Where it does not say itself; what trainingDefaults say besides stays, and both containers know."""
    for defaults, wanted in (({}, "mlflow,wandb"), ({"tracking": "json,mlflow"}, "json,mlflow,wandb")):
        job = render(OF_WANDB, trainingDefaults=defaults)
        assert [environment(container(job, n))["TRAINYARD_TRACKING"] for n in ("trainer", "shipper")] == [wanted] * 2
    more = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}}
    for entry, limit in ((OF_WANDB, "1Gi"), ({**OF_WANDB, "shipperResources": more}, "2Gi"), (PLAIN, "256Mi")):
        assert container(render(entry), "shipper")["resources"]["limits"]["memory"] == limit
    own = render({**OF_WANDB, "tracking": "wandb,mlflow"})
    assert environment(container(own, "trainer"))["TRAINYARD_TRACKING"] == "wandb,mlflow"
    assert environment(container(render(PLAIN), "trainer"))["TRAINYARD_TRACKING"] == "mlflow"


@pytest.mark.parametrize(
    ("workers", "checkpoint", "mode"),
    [
        (1, {"size": "5Gi"}, "ReadWriteOncePod"),
        (4, {"size": "5Gi"}, "ReadWriteMany"),
        (4, {"size": "5Gi", "accessMode": "ReadWriteOnce"}, "ReadWriteOnce"),
    ],
)
def test_workers_share_a_volume(workers: int, checkpoint: dict[str, str], mode: str) -> None:
    """So that a trial that one of them gave up goes on in another; it stays when the sweep is changed or switched off."""
    sweep = {**PLAIN, "workers": workers, "checkpoint": checkpoint}
    claim = scenario(sweep).one("PersistentVolumeClaim", "demo-checkpoint")
    assert claim["spec"] == {"accessModes": [mode], "resources": {"requests": {"storage": "5Gi"}}}
    (state,) = [v for v in pod_spec(render(sweep))["volumes"] if v["name"] == "state"]
    assert state["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    other = {**sweep, "sweep": {**SWEEP_FILE, "trials": 99}}
    for each in (other, {**sweep, "enabled": False}):
        assert claim["metadata"]["name"] in scenario(each).names("PersistentVolumeClaim")


def test_checkpoints_in_s3() -> None:
    job = render({**PLAIN, "checkpointUri": "s3://team/sweeps", "envFromSecrets": ["keys"]})
    assert environment(container(job, "trainer"))["TRAINYARD_CHECKPOINT_URI"] == "s3://team/sweeps"
    assert secrets(container(job, "trainer")) == {"trainyard-client", "keys", "trainyard-optuna"}


def test_disabled_sweep_is_gone() -> None:
    off = scenario({**PLAIN, "enabled": False})
    assert off.kind("Job") == [] and off.names("ConfigMap") == Scenario(values=WANDB).names("ConfigMap")


CHANGES: dict[str, dict[str, Any]] = {
    "trials": {"sweep": {**SWEEP_FILE, "trials": 21}},
    "a range": {"sweep": {**SWEEP_FILE, "parameters": {"lr": {"min": 0.1, "max": 0.5}}}},
    "the sweep's name": {"sweep": {**SWEEP_FILE, "name": "other"}},
    "workers": {"workers": 2},
    "trialsPerWorker": {"trialsPerWorker": 1},
    "gpus": {"gpus": 1},
    "tracking": {"tracking": "mlflow,wandb"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_makes_a_new_job(change: dict[str, Any]) -> None:
    """Of the file, too: workers of one Job must not read two of them."""
    assert name({**PLAIN, **change}) != name(PLAIN)


def test_another_file_is_another_config_map() -> None:
    """Pods of the old Job keep theirs; and nobody edits one under a Job that runs."""
    first, second = (
        {c["metadata"]["name"]: c for c in scenario(each).kind("ConfigMap") if "sweep.yaml" in c["data"]}
        for each in (PLAIN, {**PLAIN, **CHANGES["trials"]})
    )
    assert not set(first) & set(second)
    assert all(c["immutable"] is True for c in (*first.values(), *second.values()))


@pytest.mark.parametrize(
    "values",
    [
        {"mlflow": {"replicas": 2}},
        {"trainingJobs": {"other": {"args": ["train"]}}},
        {"sweeps": {"demo": {**PLAIN, "workers": 1, "trialsPerWorker": 0, "enabled": True, "ttlSeconds": 60}}},
        {"sweeps": {"demo": {"sweep": {**SWEEP_FILE, "name": "demo"}}, "other": PLAIN}},
    ],
    ids=["server", "a training Job", "defaults said aloud", "another sweep"],
)
def test_unchanged_sweep_is_the_same_job(values: dict[str, Any]) -> None:
    """Nothing but its own spec and file makes a sweep run again."""
    assert name(PLAIN) in Scenario(values={"sweeps": {"demo": PLAIN}, **WANDB, **values}).names("Job")


TRAINING_JOBS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({"args": ["train", "digits"]}, "4f1c66bd"),
    "big": (BIG_JOB, "292b47f8"),
    "from-anywhere": ({"args": ["train", "lm"], "gpus": 2, "checkpointUri": "s3://team"}, "0292aec2"),
    "queued": ({"args": ["x"], "queue": "g", "ttlSeconds": 5}, "e5741a45"),
}
"""Jobs and the end of their names, which the templates must not change: whoever has such a Job would train it again."""


@pytest.mark.parametrize(("job", "ending"), TRAINING_JOBS.values(), ids=TRAINING_JOBS.keys())
def test_training_jobs_keep_their_names(job: dict[str, Any], ending: str) -> None:
    """With or without a sweep beside them. A change of what all training Jobs are made of changes these, and CHANGELOG.md says so."""
    for sweeps in ({}, {"search": PLAIN}):
        image = {"images": {"trainer": {"tag": "1"}}}
        rendered = Scenario(values={"trainingJobs": {"demo": job}, "sweeps": sweeps, **image})
        (found,) = [each for each in rendered.names("Job") if each.startswith("trainyard-demo-")]
        assert found == f"trainyard-demo-{ending}"


def test_the_readme_links_to_sweeps() -> None:
    text = (ROOT / "README.md").read_text()
    assert "k8s/11-sweep-optuna.yaml" in text and "k8s/10-sweep-wandb.yaml" in text
