"""The sweeps that we ship: those of k8s/ by the commands of their headers, and one by the chart's values."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final

from local_cluster.settings import RELEASE

from tests.kind import wandb_standin
from tests.kind.interruptions import CLUSTER_WIDE, Interrupted
from tests.kind.manifest_headers import apply, header
from tests.kind.platform import Platform
from tests.kind.sweep_jobs import Ended, SweepJob, side_by_side
from tests.kind.training_pods import TrainingPod
from tests.kind.wandb_server.store import KEY

WANDB: Final = "10-sweep-wandb.yaml"
WANDB_TRIALS: Final = 6
WANDB_PROJECT: Final = "digits"
OPTUNA: Final = "11-sweep-optuna.yaml"
RAY: Final = "12-sweep-ray.yaml"
OBJECTIVE_OF_TASKS: Final = "validation/loss"
CHART_TRIALS: Final = 4
CHART_EPOCHS: Final = 3
RAY_TRIALS: Final = 8
RAY_STEPS: Final = 27
_PATIENCE_S: Final = 420


def example(platform: Platform, _token: str) -> Mapping[str, Future[Ended]]:
    """The digits with pruning."""

    def live() -> Ended:
        job = _start(platform, OPTUNA)
        platform.wait_for("what `sweep status` says", lambda: platform.shell(header(OPTUNA)["Status"]), _PATIENCE_S)
        return Ended(job, job.end(_PATIENCE_S))

    return side_by_side(example=live)


def chart(platform: Platform, token: str) -> Mapping[str, Future[Ended]]:
    """An entry of `sweeps:`, and the manifest for W&B, which needs a value of the chart."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
        json.dump({"sweeps": {"tiny": _entry(token)}, "client": {"wandbBaseUrl": wandb_standin.URL}}, values)
        values.flush()
        with CLUSTER_WIDE:
            platform.upgrade("--values", values.name)

    def of_values() -> Ended:
        selector = f"trainyard.dev/kind=sweep,app.kubernetes.io/instance={RELEASE}"
        (found,) = platform.objects("jobs", selector)
        job = SweepJob(platform, found["metadata"]["name"])
        return Ended(job, job.end(_PATIENCE_S), trials=CHART_TRIALS, steps=CHART_EPOCHS)

    def of_manifest() -> Ended:
        platform.shell(header(WANDB)["Secret"].replace("=KEY", f"={KEY}"))
        job = _start(platform, WANDB)
        platform.wait_for("what `sweep status` says", lambda: platform.shell(header(WANDB)["Status"]), _PATIENCE_S)
        return Ended(job, job.end(_PATIENCE_S), trials=WANDB_TRIALS)

    return side_by_side(chart=of_values, wandb=of_manifest)


def _entry(token: str) -> dict[str, Any]:
    """Small enough for the test cluster."""
    sweep = {
        "name": f"tiny-{token}",
        "method": "random",
        "metric": {"name": OBJECTIVE_OF_TASKS, "goal": "minimize"},
        "parameters": {"lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1}},
        "program": ["trainyard", "train", "tinynet", "--set", f"epochs={CHART_EPOCHS}"],
        "trials": CHART_TRIALS,
        "experiment": "sweeps",
    }
    resources = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}}
    sizes = {"shmSize": "64Mi", "tmpSize": "1Gi", "stateSize": "1Gi"}
    return {"workers": 2, "resources": resources, **sizes, "gracePeriodSeconds": 60, "sweep": sweep}


def ray(platform: Platform, _token: str) -> Mapping[str, Future[Ended]]:
    """Ray Tune in a pod that is evicted once."""

    def live() -> Ended:
        job = _start(platform, RAY)
        pod = TrainingPod(platform, job.job)
        platform.wait_for(f"job/{job.job} to be in the middle of a trial", lambda: _in_the_middle(job), _PATIENCE_S)
        Interrupted(pod).evict()
        return Ended(job, job.end(_PATIENCE_S), trials=RAY_TRIALS, steps=RAY_STEPS)

    return side_by_side(ray=live)


def _in_the_middle(job: SweepJob) -> bool:
    """Whether a trial is in the first half of its steps."""
    try:
        trials = job.trials
    except ValueError:  # there is no parent run yet
        return False
    running = [run for run in trials.values() if run["info"]["status"] == "RUNNING"]
    return any(1 <= len(job.rows(run, OBJECTIVE_OF_TASKS)) <= RAY_STEPS // 2 for run in running)


def _start(platform: Platform, name: str) -> SweepJob:
    """The Job of a file of k8s/, made anew."""
    (job,) = re.findall(r"^job\.batch/(\S+) ", apply(platform, name), re.MULTILINE)
    return SweepJob(platform, job)
