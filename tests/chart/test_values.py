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
from scenarios import BIG_JOB, EXISTING_SECRETS, EXTERNAL, OF_A_TRAINING, SWEEP_FILE, WANDB

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


def sweep_file(**keys: Any) -> dict[str, Any]:
    """A sweep with these keys in its file; None removes one."""
    content = {key: value for key, value in {**SWEEP_FILE, **keys}.items() if value is not None}
    return {"sweeps": {"a": {"sweep": content}}}


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
    ({"optuna": {"uri": "postgresql://"}}, "'uri' not allowed"),
    ({"optuna": {"existingSecret": "Not_A_Name"}}, "/optuna/existingSecret"),
    ({"sweeps": []}, "/sweeps"),
    ({"sweeps": {"a": {}}}, "missing property 'sweep'"),
    ({"sweeps": {"a": {"agents": 3}}}, "'agents' not allowed"),
    *[({"sweeps": {"a": {key: BIG_JOB[key]}}}, f"'{key}' not allowed") for key in sorted(OF_A_TRAINING)],
    ({"sweeps": {"a": {"workers": 0}}}, "/sweeps/a/workers"),
    ({"sweeps": {"a": {"trialsPerWorker": -1}}}, "/sweeps/a/trialsPerWorker"),
    ({"sweeps": {"a": {"gpus": -1}}}, "/sweeps/a/gpus"),
    ({"sweeps": {"a": {"checkpoint": {"storageClass": "fast"}}}}, "missing property 'size'"),
    (sweep_file(trails=20), "'trails' not allowed"),
    (sweep_file(name="Digits"), "/sweeps/a/sweep/name"),
    (sweep_file(name="a" * 41), "/sweeps/a/sweep/name"),
    (sweep_file(backend="ray"), "/sweeps/a/sweep/backend"),
    (sweep_file(method="gridsearch"), "/sweeps/a/sweep/method"),
    (sweep_file(metric="loss"), "/sweeps/a/sweep/metric"),
    (sweep_file(metric={"name": "loss", "goal": "low"}), "goal"),
    (sweep_file(metric=None), "missing property 'metric'"),
    (sweep_file(program=None), "missing property 'program'"),
    (sweep_file(parameters={}), "/sweeps/a/sweep/parameters"),
    (sweep_file(parameters={"lr": 0.1}), "/sweeps/a/sweep/parameters/lr"),
    (sweep_file(parameters={"lr": {"low": 0.1, "max": 1}}), "'low' not allowed"),
    (sweep_file(parameters={"lr": {"min": "small"}}), "/sweeps/a/sweep/parameters/lr/min"),
    (sweep_file(parameters={"m": {"parameters": {"lr": {"values": []}}}}), "/parameters/lr/values"),
    (sweep_file(early_terminate={"type": "asha", "min_steps": 3}), "'min_steps' not allowed"),
    (sweep_file(constraints=[{"metric": "m", "most": 3}]), "'most' not allowed"),
    (sweep_file(trials=0), "/sweeps/a/sweep/trials"),
    (sweep_file(heartbeat_s=0), "/sweeps/a/sweep/heartbeat_s"),
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


def sweep(**keys: Any) -> dict[str, Any]:
    return {"sweeps": {"a": {"sweep": SWEEP_FILE, **keys}}}


def wandb_sweep(**keys: Any) -> dict[str, Any]:
    return {**WANDB, **sweep(sweep={**SWEEP_FILE, "backend": "wandb"}, envFromSecrets=["wandb"], **keys)}


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
        "mlflow.replicas=4 and mlflow.workers=4 may open 750 database connections",
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
    "sweep's name too long": (
        Scenario(values={"sweeps": {"a" * 31: {"sweep": SWEEP_FILE}}}),
        "becomes part of its pods' host names. Use at most 30 lower-case letters",
    ),
    "sweep and Job of one name": (
        Scenario(values={**sweep(), **job()}),
        "sweeps.a and trainingJobs.a: both would use the volume of that name. Give the sweep another name",
    ),
    "latest worker": (Scenario(values=sweep(image="example.com/a:latest")), "sweeps.a.image=latest: nodes would"),
    "variable of the contract in a sweep": (
        Scenario(values=sweep(env={"TRAINYARD_STATE_DIR": "/data"})),
        "sweeps.a.env.TRAINYARD_STATE_DIR: the chart sets this variable",
    ),
    "database in plain sight": (
        Scenario(values=sweep(env={"TRAINYARD_OPTUNA_URL": "postgresql://optuna:secret@db/optuna"})),
        "sweeps.a.env.TRAINYARD_OPTUNA_URL: anyone who may see the Job could read it, and every trial would get it. Put",
    ),
    "one worker's volume for two": (
        Scenario(values=sweep(workers=2, checkpoint={"size": "1Gi", "accessMode": "ReadWriteOncePod"})),
        "sweeps.a.workers=2 and sweeps.a.checkpoint.accessMode=ReadWriteOncePod: all pods but one would wait for the volume "
        "for ever. Use ReadWriteMany, or one worker",
    ),
    "range that Helm has rounded": (
        Scenario(values=sweep_file(parameters={"lr": {"min": 0.0, "max": 1.0}})),
        "sweeps.a.sweep.parameters.lr: min 0 and max 1 may mean whole numbers or any, since Helm reads 1.0 as 1. Add "
        "distribution: int_uniform or distribution: uniform",
    ),
    "range in a group that Helm has rounded": (
        Scenario(values=sweep_file(parameters={"model": {"parameters": {"lr": {"min": -1, "max": 1}}}})),
        "sweeps.a.sweep.parameters.model.parameters.lr: min -1 and max 1 may mean",
    ),
    "workers without a number": (
        Scenario(
            values=sweep(trialsPerWorker=2, sweep={key: SWEEP_FILE[key] for key in ("metric", "parameters", "program")})
        ),
        "sweeps.a.trialsPerWorker=2 and sweeps.a.sweep.trials is empty: nobody knows how many workers that makes",
    ),
    "more workers than fit into a host name": (
        Scenario(values=sweep(trialsPerWorker=1, sweep={**SWEEP_FILE, "trials": 10001})),
        "sweeps.a makes 10001 workers one after the other: the number of the last one would not fit",
    ),
    "Optuna without a database, external": (
        Scenario(values={**EXTERNAL, **sweep()}),
        "sweeps.a needs Optuna's database and optuna.existingSecret is empty: the chart makes that Secret only where it makes "
        "the embedded Postgres' passwords. Name a Secret with key TRAINYARD_OPTUNA_URL in optuna.existingSecret",
    ),
    "Optuna without a database, passwords of one's own": (
        Scenario(values={**EXISTING_SECRETS, **sweep()}),
        "sweeps.a needs Optuna's database and optuna.existingSecret is empty",
    ),
    "W&B without a server": (
        Scenario(values={**wandb_sweep(), "client": {"wandbBaseUrl": ""}}),
        "sweeps.a.sweep.backend=wandb and client.wandbBaseUrl is empty: the sweep is made at a Weights & Biases server, and it "
        "must be said at which. Set client.wandbBaseUrl, for example https://api.wandb.ai, or use backend optuna",
    ),
    "W&B without a key": (
        Scenario(values={**WANDB, **sweep(sweep={**SWEEP_FILE, "backend": "wandb"})}),
        "sweeps.a.sweep.backend=wandb and sweeps.a.envFromSecrets is empty: Weights & Biases would refuse every worker. Name a "
        "Secret with key WANDB_API_KEY in sweeps.a.envFromSecrets",
    ),
    "sweep of W&B that is not recorded there": (
        Scenario(values=wandb_sweep(tracking="mlflow")),
        "sweeps.a.sweep.backend=wandb and sweeps.a.tracking=mlflow: W&B knows a trial by its run there, and workers find each "
        "other and report in MLflow. Use tracking mlflow,wandb",
    ),
    "sweep of W&B that is recorded there alone": (
        Scenario(values=wandb_sweep(tracking="wandb")),
        "sweeps.a.sweep.backend=wandb and sweeps.a.tracking=wandb: W&B knows",
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
    "optuna.existingSecret": ({**EXTERNAL, "optuna": {"existingSecret": "one"}, **sweep()}, "other"),
    "sweeps": ({}, {"a": {"sweep": SWEEP_FILE}}),
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
            target = lookup(SCHEMA, tuple(reference["$ref"].removeprefix("#/").split("/")))
            schema = {**resolved(target), **schema}
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
    free = {
        "global",
        "trainingJobs",
        "trainingDefaults.nodeSelector",
        "sweeps",
        "sweep.nodeSelector",
        "sweep.sweep.parameters",
    }
    for path, schema in [*schema_paths(SCHEMA), *schema_paths(SCHEMA["definitions"]["sweep"], ("sweep",))]:
        assert schema.get("description"), f"{'.'.join(path)} is not described"
        if schema.get("type") == "object" or "object" in schema.get("type", []):
            assert schema.get("additionalProperties") is False or ".".join(path) in free, ".".join(path)


def test_a_sweep_has_the_keys_of_a_job() -> None:
    """All of them, so that a new one is not forgotten; but for those that its file says."""
    ours, jobs = (set(SCHEMA["definitions"][name]["properties"]) for name in ("sweep", "trainingJob"))
    assert ours == jobs - OF_A_TRAINING | {"sweep", "workers", "trialsPerWorker"}


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
    assert "ttlSeconds" not in notes and "kind=sweep" not in notes


def test_notes_say_how_far_a_sweep_is() -> None:
    """By its first worker; its volume stays like a Job's, and a Job that Kubernetes deletes is warned of like any other."""
    sweeps = {"search": {"sweep": SWEEP_FILE, "checkpoint": {"size": "1Gi"}, "ttlSeconds": 60}}
    values = json.dumps({"sweeps": {**sweeps, "off": {**sweeps["search"], "enabled": False}}})
    command = ["install", "trainyard", str(CHART), "--namespace", "ml", "--dry-run=client", "--values", "-"]
    notes = helm(*command, stdin=values).partition("NOTES:")[2]
    assert "trainyard.dev/kind=sweep" in notes and "kind=training" not in notes
    assert "trainyard.dev/name=search,batch.kubernetes.io/job-completion-index=0" in notes
    assert "trainyard.dev/name=off" not in notes
    assert "  trainyard-search-checkpoint\n" in notes and "  trainyard-off-checkpoint\n" in notes
    assert re.search(r"before the next one: search$", notes, re.MULTILINE)


def test_notes_warn_of_jobs_that_would_run_again() -> None:
    """A Job that Kubernetes has deleted is one that Helm makes."""
    passing = {**FULL_JOB, "ttlSeconds": 3600}
    jobs = {"kept": FULL_JOB, "one": passing, "two": passing, "off": {**passing, "enabled": False}}
    command = ["install", "trainyard", str(CHART), "--namespace", "ml", "--dry-run=client", "--values", "-"]
    notes = helm(*command, stdin=json.dumps({"trainingJobs": jobs})).partition("NOTES:")[2]
    (line,) = [line for line in notes.splitlines() if "before the next one:" in line]
    assert line.endswith(": one, two")
