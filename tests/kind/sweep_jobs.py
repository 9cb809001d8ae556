"""Sweep Jobs of programs that the tests bring along: workers that can be stopped one by one, and what MLflow has of the trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from local_cluster.errors import CommandError
from local_cluster.settings import REPOSITORY

from tests.kind.interruptions import INDEX, Interrupted
from tests.kind.platform import Platform, tags
from tests.kind.training_pods import TrainingPod

GRACE_S: Final = 45
OBJECTIVE: Final = "loss"
_MIDDLE: Final = (2, 0.6)
"""A trial is in its middle from this step on, up to this part of all."""


@dataclass(frozen=True)
class Worker(TrainingPod):
    """One index of a sweep Job: a pod at a time."""

    index: int = 0

    @property
    def pods(self) -> list[dict[str, Any]]:
        """See TrainingPod."""
        return [pod for pod in super().pods if pod["metadata"]["labels"].get(INDEX) == str(self.index)]

    def trial_in_hand(self, steps: int) -> str:
        """Number of a trial of so many steps that this worker is in the middle of; waits for one."""

        def found() -> str | None:
            for progress in self._progress():
                first, part = _MIDDLE
                if progress["pod"] == self.name and first <= progress["step"] <= part * steps:
                    return str(progress["trial"])
            return None

        trial: str = self.platform.wait_for(f"worker {self.index} of job/{self.job} to have a trial in hand", found)
        return trial

    def delete(self, steps: int) -> str:
        """`kubectl delete pod` in the middle of a trial, which is returned when the Job has made a new pod."""
        trial = self.trial_in_hand(steps)
        Interrupted(self).delete()
        return trial

    def evict(self, steps: int) -> str:
        """The same by eviction."""
        trial = self.trial_in_hand(steps)
        Interrupted(self).evict()
        return trial

    def kill_worker(self, steps: int) -> str:
        """The same by SIGKILL to the process that runs the sweep, with which its trial goes."""
        trial, pod = self.trial_in_hand(steps), self.pod
        self.kill("trainyard sweep run")
        Interrupted(self).wait_for_another(pod)
        return trial

    def _progress(self) -> list[dict[str, Any]]:
        """Of all trials of the sweep; see programs/sweep_trial.py."""
        try:
            script = "cat /state/progress/*.json"
            lines = self.platform.kubectl("exec", self.name, "--container=shipper", "--", "sh", "-c", script)
        except (CommandError, IndexError):  # no pod, no container or no trial yet
            return []
        return [json.loads(line) for line in lines.splitlines()]


@dataclass(frozen=True)
class SweepJob:
    """A Job whose pods share a search."""

    platform: Platform
    job: str

    def worker(self, index: int) -> Worker:
        """One of them."""
        return Worker(self.platform, self.job, index)

    @property
    def pods(self) -> list[dict[str, Any]]:
        """Those that there were, too."""
        return self.platform.objects("pods", f"batch.kubernetes.io/job-name={self.job}")

    @property
    def exit_codes(self) -> list[int]:
        """Of the workers that have ended and whose pods are still there; a node with too much to do fails to start one now and then."""
        ended = [each for pod in self.pods if (each := _ended(pod)) is not None]
        return [int(each["exitCode"]) for each in ended if each["reason"] != "StartError"]

    @property
    def last_end(self) -> float:
        """When the last of its workers ended, in seconds since 1970."""
        ended = [each for pod in self.pods if (each := _ended(pod)) is not None]
        return max(datetime.fromisoformat(each["finishedAt"]).timestamp() for each in ended)

    @property
    def at_work(self) -> list[str]:
        """Pods whose worker has not ended."""
        return [pod["metadata"]["name"] for pod in self.pods if exit_code(pod) is None]

    @property
    def log(self) -> str:
        """Of all workers."""
        names = [pod["metadata"]["name"] for pod in self.pods]
        return "\n".join(self.platform.kubectl("logs", name, "--container=trainer", "--tail=-1") for name in names)

    def end(self, timeout_s: float = 420) -> str:
        """Wait for the Job to end: "Complete" or "Failed"."""
        return self.platform.job_end(self.job, timeout_s)

    @property
    def parent(self) -> dict[str, Any]:
        """The run above all trials, which the first worker has made."""
        uid = json.loads(self.platform.kubectl("get", "job", self.job, "--output=json"))["metadata"]["uid"]
        (found,) = find_runs(self.platform, {"trainyard.job_uid": uid, "trainyard.sweep_role": "parent"})
        return found

    @property
    def trials(self) -> dict[str, dict[str, Any]]:
        """Number of the trial -> its run; a trial with two runs fails the test."""
        runs = find_runs(self.platform, {"mlflow.parentRunId": self.parent["info"]["run_id"]})
        found = {tags(run)["trainyard.trial"]: run for run in runs}
        assert len(found) == len(runs), f"of {len(runs)} runs some belong to the same trial: {sorted(found)}"
        return found

    def rows(self, run: dict[str, Any], key: str = OBJECTIVE) -> list[tuple[int, float]]:
        """(step, value) of every row in Postgres, so that a point stored twice is seen."""
        where = f"run_uuid = '{run['info']['run_id']}' AND key = '{key}'"
        found = self.platform.sql(f"SELECT step, value FROM metrics WHERE {where} ORDER BY step")
        return [(int(step), float(value)) for step, value in found]

    def artifacts(self, folder: str = "") -> set[str]:
        """Paths of the parent run's files below a folder."""
        where = f"artifacts/list?path={folder}" if folder else "artifacts/list"
        listed = self.platform.mlflow("GET", where, run_id=self.parent["info"]["run_id"])
        found: set[str] = set()
        for file in listed.get("files", []):
            found |= self.artifacts(file["path"]) if file["is_dir"] else {file["path"]}
        return found


@dataclass(frozen=True)
class Ended:
    """A sweep at its end."""

    job: SweepJob
    end: str
    """Complete or Failed."""
    interrupted: tuple[str, ...] = ()
    """Trials that were in hand of a worker that was stopped."""
    trials: int = 0
    """How many it was to have."""
    steps: int = 0
    """Of each of them."""
    seconds: float = 0.0
    """From what ended it until the last worker was gone."""


def side_by_side(**lives: Callable[[], Ended]) -> Mapping[str, Future[Ended]]:
    """Live them all to their end; the one that fails does not end the others."""
    with ThreadPoolExecutor(len(lives)) as together:
        return {name: together.submit(life) for name, life in lives.items()}


def exit_code(pod: dict[str, Any]) -> int | None:
    """Of its trainer; None while that runs."""
    ended = _ended(pod)
    return None if ended is None else int(ended["exitCode"])


def lasted_s(pod: dict[str, Any]) -> float:
    """How long its trainer ran, which has ended."""
    ended = _ended(pod)
    assert ended is not None
    began, finished = (datetime.fromisoformat(ended[when]) for when in ("startedAt", "finishedAt"))
    return (finished - began).total_seconds()


def _ended(pod: dict[str, Any]) -> dict[str, Any] | None:
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] == "trainer" and "terminated" in status["state"]:
            found: dict[str, Any] = status["state"]["terminated"]
            return found
    return None


def find_runs(platform: Platform, wanted: dict[str, str]) -> list[dict[str, Any]]:
    """Runs of all experiments that have these tags."""
    experiments = platform.mlflow("POST", "experiments/search", max_results=1000).get("experiments", [])
    condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
    ids = [each["experiment_id"] for each in experiments]
    found: list[dict[str, Any]] = platform.mlflow(
        "POST", "runs/search", experiment_ids=ids, filter=condition, max_results=1000
    ).get("runs", [])
    return found


def start_sweep(platform: Platform, name: str, sweep: dict[str, Any], *, workers: int, **changes: Any) -> SweepJob:
    """Run a sweep in an Indexed Job. `changes`: env of all containers, secrets of the trainer, retries of all workers together.

    The workers share a volume, on which each trial finds its record and how far it is. What is made is called `name`.
    """
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "256Mi"}}}
    for kind, content in (
        ("ConfigMap", {"data": {"sweep.yaml": json.dumps({"name": name, **sweep}, indent=2)}}),
        ("PersistentVolumeClaim", {"spec": claim}),
    ):
        platform.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content})
    platform.apply(_job(platform, name, workers, changes))
    return SweepJob(platform, name)


def remove_sweeps(platform: Platform, names: list[str]) -> None:
    """Everything that `start_sweep` has made."""
    for kind in ("job", "persistentvolumeclaim", "configmap"):
        platform.kubectl("delete", kind, "--ignore-not-found", *names)


def _job(platform: Platform, name: str, workers: int, changes: dict[str, Any]) -> dict[str, Any]:
    """The Job of k8s/01, with several pods that run the sweep in place of a task."""
    text = (REPOSITORY / "k8s/01-train-digits.yaml").read_text()
    job: dict[str, Any] = json.loads(
        platform.kubectl("create", "--dry-run=client", "--output=json", "--filename=-", stdin=text)
    )
    job["metadata"]["name"] = name
    job["spec"] |= {"completionMode": "Indexed", "completions": workers, "parallelism": workers}
    job["spec"]["backoffLimit"] = changes.get("retries", 3)
    spec = job["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = GRACE_S
    times = {"TRAINYARD_GRACE_S": str(GRACE_S - 15), "TRAINYARD_SHIP_GRACE_S": str(GRACE_S - 5)}
    added = {**times, **changes.get("env", {})}
    (trainer,) = spec["containers"]
    (shipper,) = spec["initContainers"]
    for container in (trainer, shipper):
        container["image"] = platform.images["trainer"]
        container["env"] = [each for each in container["env"] if each["name"] not in added]
        container["env"] += [{"name": key, "value": value} for key, value in added.items()]
        # So little that all the pods of these tests fit; so much that the shipper of the first can hold several W&B clients.
        container["resources"] = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}}
    trainer["args"] = ["sweep", "run", "/sweep/sweep.yaml"]
    trainer["envFrom"] = [*trainer["envFrom"], *({"secretRef": {"name": each}} for each in changes.get("secrets", ()))]
    mounts = {"programs": {"configMap": {"name": "programs"}}, "sweep": {"configMap": {"name": name}}}
    trainer["volumeMounts"] += [{"name": each, "mountPath": f"/{each}"} for each in mounts]
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != "state"]
    spec["volumes"] += [{"name": "state", "persistentVolumeClaim": {"claimName": name}}]
    spec["volumes"] += [{"name": each, **source} for each, source in mounts.items()]
    return job
