"""The ways to install the chart that every policy is checked against."""

from typing import Any

from manifests import PROFILES, Scenario

EXTERNAL: dict[str, Any] = {
    "postgres": {"enabled": False},
    "externalPostgres": {"existingSecret": "team-database"},
    "objectstore": {"enabled": False},
    "externalS3": {"existingSecret": "team-bucket", "bucket": "artifacts", "endpointUrl": "https://s3.example.com"},
}
"""Nothing embedded."""

EXISTING_SECRETS: dict[str, Any] = {
    "postgres": {"existingSecret": "own-passwords"},
    "objectstore": {"existingSecret": "own-keys"},
}
"""Embedded stores, and no generated password: two renderings are equal."""

BIG_JOB: dict[str, Any] = {
    "image": "registry.example.com/team/llm:1.2",
    "command": ["python3", "-m", "finetune"],
    "args": ["--epochs", "3"],
    "gpus": 8,
    "gpuResource": "amd.com/gpu",
    "tracking": "json,mlflow,wandb",
    "shipperResources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "1Gi"}},
    "nodes": 4,
    "processesPerNode": 4,
    "env": {"NCCL_DEBUG": "WARN"},
    "envFromSecrets": ["wandb"],
    "shmSize": "16Gi",
    "tmpSize": "100Gi",
    "stateSize": "20Gi",
    "checkpoint": {"size": "500Gi", "storageClass": "shared"},
    "checkpointUri": "s3://team/checkpoints",
    "deadlineSeconds": 604800,
    "retries": 10,
    "gracePeriodSeconds": 1800,
    "ttlSeconds": 86400,
    "queue": "gpus",
    "priorityClass": "research",
    "nodeSelector": {"example.com/gpu": "mi300"},
    "tolerations": [{"key": "team", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}],
}
"""A Job that uses every key."""

WITHOUT_TRAINER = {"12-sweep-ray", "13-rayjob-kuberay"}
"""Files of k8s/ that have an image and pods of their own; see test_ray_manifests.py."""

LONGEST_RELEASE = "a-release-with-the-longest-name-that-helm-accepts-53x"
assert len(LONGEST_RELEASE) == 53

JOBS: dict[str, Any] = {
    "plain": {"args": ["train", "digits"]},
    "big": BIG_JOB,
    "from-anywhere": {"args": ["train", "lm"], "gpus": 2, "checkpointUri": "s3://team"},
    "a-job-with-thirty-characters-x": {"args": ["train", "digits"], "nodes": 1000, "checkpoint": {"size": "1Gi"}},
}

SWEEP_FILE: dict[str, Any] = {
    "metric": {"name": "validation/loss", "goal": "minimize"},
    "parameters": {
        "lr": {"distribution": "log_uniform_values", "min": 0.00001, "max": 0.1},
        "model": {"parameters": {"channels": {"values": [8, 16, 32]}, "dropout": {"min": 0.0, "max": 0.5}}},
    },
    "program": ["trainyard", "train", "digits", "--set", "epochs=27"],
    "trials": 20,
}
"""What is searched, by Optuna."""

WANDB: dict[str, Any] = {"client": {"wandbBaseUrl": "https://wandb.example.com"}}
"""What a sweep of W&B needs besides."""

OF_A_TRAINING = {"command", "args", "nodes", "processesPerNode"}
"""Keys of a Job that a sweep has not: its file says what is run."""

BIG_SWEEP: dict[str, Any] = {
    **{key: value for key, value in BIG_JOB.items() if key not in OF_A_TRAINING},
    "workers": 10,
    "trialsPerWorker": 2,
    "sweep": {**SWEEP_FILE, "name": "search", "backend": "wandb", "method": "bayes", "trials": 40},
}
"""A sweep that uses every key."""

SWEEPS: dict[str, Any] = {
    "plain": {"sweep": SWEEP_FILE},
    "big": BIG_SWEEP,
    "a-sweep-of-thirty-characters-x": {
        "workers": 1000,
        "trialsPerWorker": 1,
        "checkpoint": {"size": "1Gi"},
        "sweep": {**SWEEP_FILE, "trials": 10000},
    },
}

SCENARIOS: dict[str, Scenario] = {
    "default": Scenario(),
    **{path.stem: Scenario(profile=path) for path in PROFILES},
    "external": Scenario(values={**EXTERNAL, "mlflow": {"replicas": 3, "extraAllowedHosts": ["mlflow.example.com"]}}),
    "existing-secrets": Scenario(values=EXISTING_SECRETS),
    "jobs": Scenario(values={"trainingJobs": JOBS, "client": {"wandbBaseUrl": "https://wandb.example.com"}}),
    "sweeps": Scenario(values={"sweeps": SWEEPS, **WANDB, "optuna": {"existingSecret": "team-optuna"}}),
    "sweeps-beside-jobs": Scenario(
        values={"sweeps": {"digits": {"sweep": SWEEP_FILE, "workers": 4}}, "trainingJobs": JOBS}
    ),
    "longest-names": Scenario(values={"trainingJobs": JOBS}, release=LONGEST_RELEASE),
    "longest-names-of-sweeps": Scenario(values={"sweeps": SWEEPS, **WANDB}, release=LONGEST_RELEASE),
    "private-registry": Scenario(
        values={"images": {"registry": "registry.example.com/mirror", "pullSecrets": ["registry"]}, "fsGroup": None}
    ),
}
