"""What stops a training pod from outside, and how far its Job has come."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from typing import Any, Final

from local_cluster.errors import CommandError

from tests.kind.training_pods import TrainingPod

INDEX: Final = "batch.kubernetes.io/job-completion-index"

STEPS_PER_EPOCH: Final = 40
PROGRAM: Final = "trainyard train digits"
CLUSTER_WIDE: Final = threading.Lock()
"""Held while a node is cordoned or the tracking server away: its pod could not come back to the one, and evicted pods wait for the other."""


@dataclass(frozen=True)
class Interrupted:
    """A Job of the digits task whose pods are stopped, one after the other."""

    pod: TrainingPod

    @property
    def steps(self) -> int:
        """How many the newest pod says are done; 0 while there is none. Not asked of MLflow, which may be away."""
        first = [pod for pod in self.pod.pods if pod["metadata"]["labels"].get(INDEX, "0") == "0"]
        try:
            log = self.pod.platform.kubectl("logs", first[-1]["metadata"]["name"], "--container=trainer", "--tail=-1")
        except (CommandError, IndexError):  # between two pods, or before a container has started
            return 0
        restored = [int(step) for step in re.findall(r"going on after step (\d+)", log)]
        return max([0, *restored, *(STEPS_PER_EPOCH * int(epoch) for epoch in re.findall(r"epoch +(\d+)/", log))])

    def wait_for_steps(self, count: int) -> None:
        """Until so many are done."""
        self.pod.platform.wait_for(f"{count} steps of job/{self.pod.job}", lambda: self.steps >= count, 420)

    def current(self) -> dict[str, Any]:
        """The pod that trains now, once there is one."""

        def running() -> dict[str, Any] | None:
            pods = [pod for pod in self.pod.pods if "deletionTimestamp" not in pod["metadata"]]
            return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

        found: dict[str, Any] = self.pod.platform.wait_for(f"a running pod of job/{self.pod.job}", running, 240)
        return found

    def wait_for_another(self, before: dict[str, Any]) -> None:
        """Until the Job has made a new pod in place of that one; it waits longer each time."""
        uid = before["metadata"]["uid"]

        def replaced() -> bool:
            pods = self.pod.pods
            return bool(pods) and pods[-1]["metadata"]["uid"] != uid

        self.pod.platform.wait_for(f"a new pod of job/{self.pod.job}", replaced, 240)

    def freeze(self) -> None:
        """Stop its clock, so that it is not over before what is to happen to it can happen."""
        self.pod.kill(PROGRAM, "STOP")

    def thaw(self) -> None:
        """Let it go on."""
        self.pod.kill(PROGRAM, "CONT")

    def delete(self) -> None:
        """`kubectl delete pod`."""
        pod = self.current()
        self.pod.platform.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
        self.wait_for_another(pod)

    def evict(self) -> None:
        """As an autoscaler, a descheduler or `kubectl drain` does."""
        pod = self.current()
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{name}/eviction"
        self.pod.platform.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(eviction))
        self.wait_for_another(pod)

    def drain(self) -> None:
        """`kubectl drain` of its node, of this Job's pods only: the platform lives there too."""
        self.freeze()
        with CLUSTER_WIDE:
            pod = self.current()
            self.thaw()
            node, platform = pod["spec"]["nodeName"], self.pod.platform
            selector = f"--pod-selector=batch.kubernetes.io/job-name={self.pod.job}"
            try:
                platform.kubectl("drain", node, selector, "--delete-emptydir-data", "--force", "--timeout=180s")
                self.wait_for_another(pod)
            finally:
                platform.kubectl("uncordon", node)
