"""values.yaml, the schema and the templates agree; what cannot work is refused with a reason."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from manifests import CHART, PROFILES, Object, RenderError, Scenario, helm
from scenarios import EXISTING_SECRETS, EXTERNAL

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("profile", [None, *PROFILES], ids=["default", *(path.stem for path in PROFILES)])
def test_helm_lint(profile: Any) -> None:
    helm("lint", "--strict", str(CHART), *(["--values", str(profile)] if profile else []))


def test_old_kubernetes_is_refused() -> None:
    """The preStop sleep would be dropped in silence there."""
    with pytest.raises(RenderError, match=r"requires kubeVersion: >=1\.30"):
        Scenario(kube_version="1.29").render()
    assert Scenario(kube_version="v1.30.4-gke.100").render()


SCHEMA_REFUSES: list[tuple[dict[str, Any], str]] = [
    ({"mlfow": {}}, "'mlfow' not allowed"),
    ({"mlflow": {"replica": 2}}, "'replica' not allowed"),
    ({"mlflow": {"replicas": 0}}, "/mlflow/replicas"),
    ({"mlflow": {"replicas": "2"}}, "/mlflow/replicas"),
    ({"mlflow": {"replicas": None}}, "missing property 'replicas'"),
    ({"mlflow": {"workers": 65}}, "/mlflow/workers"),
    ({"mlflow": {"extraAllowedHosts": ["https://mlflow.example.com"]}}, "/mlflow/extraAllowedHosts/0"),
    ({"mlflow": {"extraAllowedHosts": ["a,b"]}}, "/mlflow/extraAllowedHosts/0"),
    ({"mlflow": {"tmpSize": "4"}}, "/mlflow/tmpSize"),
    ({"mlflow": {"gracePeriodSeconds": 0}}, "/mlflow/gracePeriodSeconds"),
    ({"mlflow": {"resources": {"limits": None}}}, "missing property 'limits'"),
    ({"mlflow": {"resources": {"requests": {"cpu": "half"}}}}, "/mlflow/resources/requests/cpu"),
    ({"mlflow": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, "'nvidia.com/gpu' not allowed"),
    ({"mlflow": {"initResources": {"limits": {"memory": None}}}}, "missing property 'memory'"),
    ({"images": {"pullPolicy": "Sometimes"}}, "/images/pullPolicy"),
    ({"images": {"mlflow": {"tag": 1.0}}}, "/images/mlflow/tag"),
    ({"images": {"mlflow": {"repository": "Upper/Case"}}}, "/images/mlflow/repository"),
    ({"images": {"sweep": {}}}, "'sweep' not allowed"),
    ({"images": {"pullSecrets": [""]}}, "/images/pullSecrets/0"),
    ({"fsGroup": 0}, "/fsGroup"),
    ({"client": {"wandbBaseUrl": "wandb.example.com"}}, "/client/wandbBaseUrl"),
    ({"postgres": {"enabled": "no"}}, "/postgres/enabled"),
    ({"postgres": {"password": "secret"}}, "'password' not allowed"),
    ({"postgres": {"storage": {"size": "big"}}}, "/postgres/storage/size"),
    ({"postgres": {"sharedBuffers": "256Mi"}}, "/postgres/sharedBuffers"),
    ({"postgres": {"existingSecret": "Not_A_Name"}}, "/postgres/existingSecret"),
    ({"objectstore": {"bucket": "Upper"}}, "/objectstore/bucket"),
    ({"externalS3": {"endpointUrl": "s3.example.com"}}, "/externalS3/endpointUrl"),
    ({"externalS3": {"accessKey": "AKIA"}}, "'accessKey' not allowed"),
    ({"externalPostgres": {"uri": "postgresql://"}}, "'uri' not allowed"),
    ({"trainingDefaults": {"gpu": 1}}, "'gpu' not allowed"),
    ({"trainingDefaults": {"resources": None}}, "missing property 'resources'"),
    ({"trainingJobs": []}, "/trainingJobs"),
    ({"trainingJobs": {"a": {"gpu": 1}}}, "'gpu' not allowed"),
    ({"trainingJobs": {"a": {"gpus": -1}}}, "/trainingJobs/a/gpus"),
    ({"trainingJobs": {"a": {"gpuResource": "gpu"}}}, "/trainingJobs/a/gpuResource"),
    ({"trainingJobs": {"a": {"nodes": 0}}}, "/trainingJobs/a/nodes"),
    ({"trainingJobs": {"a": {"processesPerNode": -1}}}, "/trainingJobs/a/processesPerNode"),
    ({"trainingJobs": {"a": {"processesPerNode": 1.5}}}, "/trainingJobs/a/processesPerNode"),
    ({"trainingJobs": {"a": {"processesPerNode": "2"}}}, "/trainingJobs/a/processesPerNode"),
    ({"trainingJobs": {"a": {"processesPerNode": "all"}}}, "/trainingJobs/a/processesPerNode"),
    ({"trainingDefaults": {"processesPerNode": None}}, "missing property 'processesPerNode'"),
    ({"trainingJobs": {"a": {"checkpointUri": "/data"}}}, "/trainingJobs/a/checkpointUri"),
    ({"trainingJobs": {"a": {"checkpointUri": "https://s3.example.com/team"}}}, "/trainingJobs/a/checkpointUri"),
    ({"trainingJobs": {"a": {"checkpointUri": "s3://Team"}}}, "/trainingJobs/a/checkpointUri"),
    ({"trainingJobs": {"a": {"checkpointUri": "s3://"}}}, "/trainingJobs/a/checkpointUri"),
    ({"trainingJobs": {"a": {"checkpointUri": "s3://team//x"}}}, "/trainingJobs/a/checkpointUri"),
    ({"trainingDefaults": {"checkpointUri": None}}, "missing property 'checkpointUri'"),
    ({"trainingJobs": {"a": {"ttlSeconds": -1}}}, "/trainingJobs/a/ttlSeconds"),
    ({"trainingJobs": {"a": {"ttlSeconds": "1h"}}}, "/trainingJobs/a/ttlSeconds"),
    ({"trainingJobs": {"a": {"priorityClass": "High"}}}, "/trainingJobs/a/priorityClass"),
    ({"trainingDefaults": {"priorityClass": None}}, "missing property 'priorityClass'"),
    ({"trainingJobs": {"a": {"args": "train digits"}}}, "/trainingJobs/a/args"),
    ({"trainingJobs": {"a": {"image": "untagged"}}}, "/trainingJobs/a/image"),
    ({"trainingJobs": {"a": {"env": {"EPOCHS": 3}}}}, "/trainingJobs/a/env/EPOCHS"),
    ({"trainingJobs": {"a": {"env": {"not-a-name": "1"}}}}, "'not-a-name' not allowed"),
    ({"trainingJobs": {"a": {"checkpoint": {"storageClass": "fast"}}}}, "missing property 'size'"),
    ({"trainingJobs": {"a": {"checkpoint": {"size": "1Gi", "accessMode": "ReadOnlyMany"}}}}, "accessMode"),
    ({"trainingJobs": {"a": {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}}}, "missing property 'limits'"),
    ({"trainingJobs": {"a": {"deadlineSeconds": 1.5}}}, "/trainingJobs/a/deadlineSeconds"),
    ({"trainingJobs": {"a": {"retries": -1}}}, "/trainingJobs/a/retries"),
    ({"trainingJobs": {"a": {"gracePeriodSeconds": 9}}}, "/trainingJobs/a/gracePeriodSeconds"),
    ({"trainingJobs": {"a": {"tracking": "mlfow"}}}, "/trainingJobs/a/tracking"),
    ({"trainingJobs": {"a": {"tracking": "mlflow, wandb"}}}, "/trainingJobs/a/tracking"),
    ({"trainingJobs": {"a": {"tracking": ""}}}, "/trainingJobs/a/tracking"),
    ({"trainingDefaults": {"tracking": None}}, "missing property 'tracking'"),
    ({"trainingJobs": {"a": {"stateSize": "900Mi"}}}, "/trainingJobs/a/stateSize"),
    ({"trainingJobs": {"a": {"shipperResources": {"limits": {"memory": "1Gi"}}}}}, "missing property 'requests'"),
    ({"trainingJobs": {"a": {"queue": "Not A Queue"}}}, "/trainingJobs/a/queue"),
    ({"trainingJobs": {"a": {"tolerations": [{"operator": "Perhaps"}]}}}, "/trainingJobs/a/tolerations/0/operator"),
]


@pytest.mark.parametrize(("values", "message"), SCHEMA_REFUSES, ids=[json.dumps(v) for v, _ in SCHEMA_REFUSES])
def test_schema_refuses(values: dict[str, Any], message: str) -> None:
    """Wrong keys and values end before anything is rendered, and the message says where."""
    with pytest.raises(RenderError, match=re.escape(message)) as refused:
        Scenario(values=values).render()
    assert "values don't meet the specifications of the schema" in str(refused.value)


def job(**keys: Any) -> dict[str, Any]:
    return {"trainingJobs": {"a": {"args": ["train", "digits"], **keys}}}


REFUSALS: dict[str, tuple[Scenario, str]] = {
    "no database": (
        Scenario(values={"postgres": {"enabled": False}}),
        "postgres.enabled=false and externalPostgres.existingSecret is empty: MLflow would have no database. Name a Secret",
    ),
    "two databases": (
        Scenario(values={"externalPostgres": {"existingSecret": "team"}}),
        'postgres.enabled=true and externalPostgres.existingSecret="team": the embedded Postgres would run unused',
    ),
    "secret of a database that is off": (
        Scenario(values={**EXTERNAL, "postgres": {"enabled": False, "existingSecret": "own"}}),
        'postgres.enabled=false and postgres.existingSecret="own": that Secret would never be read',
    ),
    "too many connections": (
        Scenario(values={"mlflow": {"replicas": 4, "workers": 4}}),
        "mlflow.replicas=4 and mlflow.workers=4 may open 686 database connections",
    ),
    "no store": (
        Scenario(values={"objectstore": {"enabled": False}}),
        "objectstore.enabled=false and externalS3.existingSecret is empty: MLflow would have no place for artifacts",
    ),
    "no bucket": (
        Scenario(values={"objectstore": {"enabled": False}, "externalS3": {"existingSecret": "team"}}),
        "objectstore.enabled=false and externalS3.bucket is empty",
    ),
    "two stores": (
        Scenario(values={"externalS3": {"bucket": "team"}}),
        'objectstore.enabled=true and externalS3.bucket="team": artifacts would go to the embedded store, not to yours',
    ),
    "secret of a store that is off": (
        Scenario(values={**EXTERNAL, "objectstore": {"enabled": False, "existingSecret": "own"}}),
        'objectstore.enabled=false and objectstore.existingSecret="own": that Secret would never be read',
    ),
    "latest server": (
        Scenario(values={"images": {"mlflow": {"tag": "latest"}}}),
        "images.mlflow.tag=latest: nodes would",
    ),
    "latest job": (Scenario(values=job(image="example.com/a:latest")), "trainingJobs.a.image=latest: nodes would"),
    "job name too long": (
        Scenario(values={"trainingJobs": {"a" * 60: {"args": ["x"]}}}),
        "becomes part of its pods' host names. Use at most 30 lower-case letters",
    ),
    "job name with capitals": (
        Scenario(values={"trainingJobs": {"Train_It": {}}}),
        "trainingJobs.Train_It: a Job's name",
    ),
    "job that does nothing": (
        Scenario(values={"trainingJobs": {"a": {}}}),
        "trainingJobs.a has neither image, command nor args: the trainer's image alone trains nothing",
    ),
    "variable of the contract": (
        Scenario(values=job(env={"TRAINYARD_STATE_DIR": "/data"})),
        "trainingJobs.a.env.TRAINYARD_STATE_DIR: the chart sets this variable",
    ),
    "variable that a key of the Job sets": (
        Scenario(values=job(env={"TRAINYARD_TRACKING": "json"})),
        "trainingJobs.a.env.TRAINYARD_TRACKING: the chart sets this variable from trainingJobs.a.tracking",
    ),
    "record that is lost with the pod": (
        Scenario(values=job(tracking="json")),
        "trainingJobs.a.tracking=json and trainingJobs.a.checkpoint is empty: everything the run records would be lost",
    ),
    "password in plain sight": (
        Scenario(values=job(env={"WANDB_API_KEY": "abc"})),
        "trainingJobs.a.env.WANDB_API_KEY: anyone who may see the Job could read it. Put it into a Secret",
    ),
    "one pod's volume for two": (
        Scenario(values=job(nodes=2, checkpoint={"size": "1Gi", "accessMode": "ReadWriteOncePod"})),
        "trainingJobs.a.nodes=2 and trainingJobs.a.checkpoint.accessMode=ReadWriteOncePod: all pods but one would wait",
    ),
    "checkpoints in two places": (
        Scenario(values=job(env={"TRAINYARD_CHECKPOINT_URI": "s3://team"})),
        "trainingJobs.a.env.TRAINYARD_CHECKPOINT_URI: the chart sets this variable from trainingJobs.a.checkpointUri",
    ),
    "launcher for an image whose program nobody knows": (
        Scenario(values=job(image="example.com/a:1", nodes=2)),
        "trainingJobs.a.nodes=2, trainingJobs.a.gpus=0 and trainingJobs.a.processesPerNode=auto need `trainyard launch`, "
        'which starts a command and cannot know the entrypoint of trainingJobs.a.image="example.com/a:1". Say what to '
        "start in trainingJobs.a.command, for example [trainyard], or set trainingJobs.a.processesPerNode=0",
    ),
    "two processes on one GPU": (
        Scenario(values=job(gpus=1, processesPerNode=2)),
        "trainingJobs.a.processesPerNode=2 and trainingJobs.a.gpus=1: NCCL refuses two processes on one GPU. Set",
    ),
    "release that begins with a digit": (Scenario(release="1st"), 'release name "1st" begins with a digit'),
}


@pytest.mark.parametrize(("scenario", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_combinations_are_refused(scenario: Scenario, message: str) -> None:
    """The message names the values, the harm and the remedy."""
    with pytest.raises(RenderError, match=re.escape(message)):
        scenario.render()


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all values that a user can set one by one."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


FULL_JOB: dict[str, Any] = {"args": ["train", "digits"], "nodes": 2, "gpus": 1, "checkpoint": {"size": "1Gi"}}
EMBEDDED: dict[str, Any] = {**EXISTING_SECRETS, "trainingJobs": {"a": FULL_JOB}}

# Values whose effect shows only in another setting than EMBEDDED: (what is set besides, the value tried).
SPECIAL: dict[str, tuple[dict[str, Any], Any]] = {
    "images.pullPolicy": (EMBEDDED, "Always"),
    "images.pullSecrets": (EMBEDDED, ["registry"]),
    "postgres.existingSecret": ({}, "own"),
    "objectstore.existingSecret": ({}, "own"),
    "externalPostgres.existingSecret": (EXTERNAL, "other"),
    "externalS3.existingSecret": (EXTERNAL, "other"),
    "externalS3.endpointUrl": (EXTERNAL, "https://other.example.com"),
    "externalS3.bucket": (EXTERNAL, "other"),
    "externalS3.region": (EXTERNAL, "eu-west-1"),
    "client.wandbBaseUrl": (EMBEDDED, "https://wandb.example.com"),
    "mlflow.extraAllowedHosts": (EMBEDDED, ["mlflow.example.com"]),
    "postgres.sharedBuffers": (EMBEDDED, "99MB"),
    "trainingJobs": ({}, {"a": FULL_JOB}),
    "trainingDefaults.enabled": (EMBEDDED, False),
    "trainingDefaults.image": ({"trainingJobs": {"a": {"args": ["train"]}}}, "example.com/a:1"),
    "trainingDefaults.command": (EMBEDDED, ["python3"]),
    "trainingDefaults.args": ({"trainingJobs": {"a": {"image": "example.com/a:1"}}}, ["train"]),
    "trainingDefaults.gpuResource": (EMBEDDED, "amd.com/gpu"),
    "trainingDefaults.tracking": (EMBEDDED, "json,mlflow"),
    "trainingDefaults.stateSize": ({"trainingJobs": {"a": {"args": ["train"]}}}, "20Gi"),
    "trainingDefaults.env": (EMBEDDED, {"EPOCHS": "1"}),
    "trainingDefaults.envFromSecrets": (EMBEDDED, ["wandb"]),
    "trainingDefaults.checkpoint": ({"trainingJobs": {"a": {"args": ["train"]}}}, {"size": "1Gi"}),
    "trainingDefaults.nodes": ({"trainingJobs": {"a": {"args": ["train"]}}}, 2),
    "trainingDefaults.gpus": ({"trainingJobs": {"a": {"args": ["train"]}}}, 2),
    "trainingDefaults.processesPerNode": (EMBEDDED, 0),
    "trainingDefaults.checkpointUri": (EMBEDDED, "s3://team"),
    "trainingDefaults.nodeSelector": (EMBEDDED, {"disk": "fast"}),
    "trainingDefaults.tolerations": (EMBEDDED, [{"key": "team", "operator": "Exists"}]),
}


# Cannot be changed alone; test_server.py does it with all that belongs to it.
SWITCHES = {("postgres", "enabled"), ("objectstore", "enabled")}


@pytest.mark.parametrize("path", [path for path in leaves(VALUES) if path not in SWITCHES], ids=".".join)
def test_every_value_does_something(path: tuple[str, ...]) -> None:
    """Setting it changes the objects; a value that changes nothing is a promise not kept."""
    around, value = SPECIAL.get(".".join(path), (EMBEDDED, other(lookup(VALUES, path))))
    changed = with_value(around, path, value)
    assert without_secrets(Scenario(values=around)) != without_secrets(Scenario(values=changed))


def lookup(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def with_value(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(values)
    node = result
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return result


def other(default: Any) -> Any:
    """A value of the same sort as the default."""
    if isinstance(default, int):
        return default + 1
    if isinstance(default, str) and re.fullmatch(r"[0-9]+(m|Mi|Gi)?", default):
        return f"1{default}"
    return "other"


def without_secrets(scenario: Scenario) -> list[Object]:
    """The objects but for what is generated: Secrets' contents and their checksums."""
    objects = copy.deepcopy(scenario.render())
    for obj in objects:
        if obj["kind"] == "Secret":
            obj["data"] = None
        template = (obj.get("spec") or {}).get("template")
        if template and obj["kind"] != "Job":
            template["metadata"]["annotations"] = None
    return objects


def test_templates_read_only_values_that_exist() -> None:
    """Every .Values.a.b in a template is a key of values.yaml, so nothing depends on a value that nobody can find."""
    files = [*CHART.glob("templates/**/*.yaml"), *CHART.glob("templates/**/*.tpl"), *CHART.glob("templates/*.txt")]
    used = {match for file in files for match in re.findall(r"\.Values((?:\.[A-Za-z0-9]+)+)", file.read_text())}
    assert len(used) > 20
    for dotted in used:
        lookup(VALUES, tuple(dotted.strip(".").split(".")))


def test_job_keys_read_by_templates_exist() -> None:
    """Likewise for the keys of a Job."""
    text = "".join(file.read_text() for file in CHART.glob("templates/**/*.*"))
    used = set(re.findall(r"\.job\.([A-Za-z]+)", text))
    assert used
    assert used <= set(VALUES["trainingDefaults"])


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its references (plain or in allOf) put in."""
    for reference in [schema, *schema.get("allOf", [])]:
        if "$ref" in reference:
            schema = {**SCHEMA["definitions"][reference["$ref"].rpartition("/")[2]], **schema}
    return schema


def schema_paths(
    schema: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every property that the schema knows, with its own schema."""
    for key, value in resolved(schema).get("properties", {}).items():
        yield (*path, key), resolved(value)
        yield from schema_paths(value, (*path, key))


def test_schema_and_values_have_the_same_keys() -> None:
    """In both directions; a parent chart's `global`, resources that have no default and a checkpoint's keys stand apart."""
    known = {".".join(path) for path, _ in schema_paths(SCHEMA)}
    apart = {key for key in known if re.search(r"^global$|ephemeral-storage$|limits\.cpu$|\.checkpoint\.", key)}
    documented = {".".join(path[:depth]) for path in leaves(VALUES) for depth in range(1, len(path) + 1)}
    assert known - apart == documented


def test_schema_is_closed_and_describes_every_key() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["additionalProperties"] is False
    free = {"global", "trainingJobs", "trainingDefaults.nodeSelector"}
    for path, schema in schema_paths(SCHEMA):
        assert schema.get("description"), f"{'.'.join(path)} is not described"
        if schema.get("type") == "object" or "object" in schema.get("type", []):
            assert schema.get("additionalProperties") is False or ".".join(path) in free, ".".join(path)


def test_every_value_is_explained() -> None:
    """A comment stands above each key, or above the group whose keys need no words of their own."""
    plain = {"resources", "initResources", "shipperResources", "requests", "limits"}
    lines = (CHART / "values.yaml").read_text().splitlines()
    missing = []
    for number, line in enumerate(lines):
        key = re.match(r" *([A-Za-z0-9]+):", line)
        if key and not lines[number - 1].lstrip().startswith("#") and parent(lines, number) not in plain:
            missing.append(f"line {number + 1}: {key[1]}")
    assert missing == []


def parent(lines: list[str], number: int) -> str:
    """Key of the group that a line of values.yaml belongs to."""
    indent = len(lines[number]) - len(lines[number].lstrip())
    for line in reversed(lines[:number]):
        if line.strip() and not line.lstrip().startswith("#") and len(line) - len(line.lstrip()) < indent:
            return line.strip().partition(":")[0]
    return ""


def test_notes_say_what_uninstall_keeps() -> None:
    """The notes name every volume that stays, and how to reach the server and the Jobs that run."""
    values = json.dumps({"trainingJobs": {"a": FULL_JOB, "off": {**FULL_JOB, "enabled": False}}})
    command = ["install", "trainyard", str(CHART), "--namespace", "ml", "--dry-run=client", "--values", "-"]
    notes = helm(*command, stdin=values).partition("NOTES:")[2]
    for claim in Scenario(values=json.loads(values)).names("PersistentVolumeClaim"):
        assert f"  {claim}\n" in notes
    assert "port-forward service/trainyard-mlflow 5000" in notes
    assert "trainyard.dev/name=a" in notes and "trainyard.dev/name=off" not in notes
    assert "ttlSeconds" not in notes


def test_notes_warn_of_jobs_that_would_run_again() -> None:
    """A Job that Kubernetes has deleted is one that Helm makes."""
    passing = {**FULL_JOB, "ttlSeconds": 3600}
    jobs = {"kept": FULL_JOB, "one": passing, "two": passing, "off": {**passing, "enabled": False}}
    command = ["install", "trainyard", str(CHART), "--namespace", "ml", "--dry-run=client", "--values", "-"]
    notes = helm(*command, stdin=json.dumps({"trainingJobs": jobs})).partition("NOTES:")[2]
    (line,) = [line for line in notes.splitlines() if "before the next one:" in line]
    assert line.endswith(": one, two")
