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

LONGEST_RELEASE = "a-release-with-the-longest-name-that-helm-accepts-53x"
assert len(LONGEST_RELEASE) == 53

JOBS: dict[str, Any] = {
    "plain": {"args": ["train", "digits"]},
    "big": BIG_JOB,
    "from-anywhere": {"args": ["train", "lm"], "gpus": 2, "checkpointUri": "s3://team"},
    "a-job-with-thirty-characters-x": {"args": ["train", "digits"], "nodes": 1000, "checkpoint": {"size": "1Gi"}},
}

SCENARIOS: dict[str, Scenario] = {
    "default": Scenario(),
    **{path.stem: Scenario(profile=path) for path in PROFILES},
    "external": Scenario(values={**EXTERNAL, "mlflow": {"replicas": 3, "extraAllowedHosts": ["mlflow.example.com"]}}),
    "existing-secrets": Scenario(values=EXISTING_SECRETS),
    "jobs": Scenario(values={"trainingJobs": JOBS, "client": {"wandbBaseUrl": "https://wandb.example.com"}}),
    "longest-names": Scenario(values={"trainingJobs": JOBS}, release=LONGEST_RELEASE),
    "private-registry": Scenario(
        values={"images": {"registry": "registry.example.com/mirror", "pullSecrets": ["registry"]}, "fsGroup": None}
    ),
}
