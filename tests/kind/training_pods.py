"""Training Jobs of programs that the tests bring along: the manifest of k8s/ with another program, and what becomes of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster.settings import REPOSITORY

from tests.kind.platform import Platform, tags

PROGRAMS = Path(__file__).parent / "programs"
EXPERIMENT = "faults"


def mount_programs(platform: Platform) -> None:
    """Put the programs into a ConfigMap that every Job of `start` mounts at /programs."""
    data = {path.name: path.read_text() for path in PROGRAMS.glob("*.py")}
    platform.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "programs"}, "data": data})


@dataclass(frozen=True)
class TrainingPod:
    """A Job with one pod at a time, and its run."""

    platform: Platform
    job: str

    @property
    def pods(self) -> list[dict[str, Any]]:
        """Those that there were, too; the newest last."""
        found = self.platform.objects("pods", f"batch.kubernetes.io/job-name={self.job}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    @property
    def pod(self) -> dict[str, Any]:
        """The newest."""
        return self.pods[-1]

    @property
    def name(self) -> str:
        name: str = self.pod["metadata"]["name"]
        return name

    @property
    def node(self) -> str:
        node: str = self.pod["spec"]["nodeName"]
        return node

    def log(self, container: str = "trainer") -> str:
        return self.platform.kubectl("logs", self.name, f"--container={container}", "--tail=-1")

    def printed(self) -> list[int]:
        """Steps that the program says it has logged."""
        return [int(line) for line in self.log().splitlines() if line.isdecimal()]

    def wait_for_step(self, step: int) -> None:
        self.platform.wait_for(f"job/{self.job} to log step {step}", lambda: (self.printed() or [-1])[-1] >= step)

    def meet_its_fate(self) -> None:
        """See programs/log_steps.py."""
        self.platform.kubectl("exec", self.name, "--container=trainer", "--", "touch", "/state/now")

    def kill(self, command_line: str, signal: str = "KILL") -> None:
        """A signal from outside, to the process of this pod whose command line has this text."""
        uid = self.pod["metadata"]["uid"].replace("-", "_")
        script = (
            "for process in /proc/[0-9]*; do "
            f"if grep -qs {uid} $process/cgroup && tr '\\0' ' ' < $process/cmdline | grep -q -- '{command_line}'; "
            f"then kill -{signal} ${{process#/proc/}}; echo killed; fi; done"
        )
        done = subprocess.run(
            ["docker", "exec", self.node, "sh", "-c", script], capture_output=True, text=True, check=True
        )
        assert "killed" in done.stdout, f"no process with {command_line} in pod {self.name}"

    def network(self, action: str) -> None:
        """`-I` drops all that the pod sends and gets, `-D` lets it through again."""
        address = self.pod["status"]["podIP"]
        for direction in ("-s", "-d"):
            rule = ["iptables", action, "FORWARD", direction, address, "-j", "DROP"]
            subprocess.run(["docker", "exec", self.node, *rule], check=True, capture_output=True)

    @property
    def run(self) -> dict[str, Any]:
        """Its run in MLflow, found by the tag."""
        return self.platform.run_of_job(self.job, EXPERIMENT)

    @property
    def outcome(self) -> tuple[str, str]:
        """Status and end reason of the run."""
        run = self.run
        return run["info"]["status"], tags(run).get("trainyard.end_reason", "")

    def end(self) -> str:
        """Wait for the Job to end: "Complete" or "Failed"."""
        return self.platform.job_end(self.job, timeout_s=240)

    def rows(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of every row in Postgres, so that a point stored twice is seen."""
        statement = f"SELECT step, value FROM metrics WHERE run_uuid = '{self.run['info']['run_id']}' AND key = '{key}' ORDER BY step"
        return [(int(step), float(value)) for step, value in self.platform.sql(statement)]

    def exit_reason(self) -> tuple[int, str]:
        """Exit code of the trainer, and why, as Kubernetes has it."""
        (status,) = [each for each in self.pod["status"]["containerStatuses"] if each["name"] == "trainer"]
        ended = status["state"]["terminated"]
        return ended["exitCode"], ended["reason"]


def start(platform: Platform, name: str, command: list[str], **changes: Any) -> TrainingPod:
    """Run `command` in the Job of k8s/01-train-digits.yaml. `changes`: env, state (a volume), cpu, memory, retries."""
    text = (REPOSITORY / "k8s/01-train-digits.yaml").read_text()
    job = json.loads(platform.kubectl("create", "--dry-run=client", "--output=json", "--filename=-", stdin=text))
    job["metadata"]["name"] = name
    job["spec"]["backoffLimit"] = changes.get("retries", 0)
    spec = job["spec"]["template"]["spec"]
    (trainer,) = spec["containers"]
    (shipper,) = spec["initContainers"]
    for container in (trainer, shipper):
        container["image"] = platform.images["trainer"]
        added = changes.get("env", {})
        container["env"] = [each for each in container["env"] if each["name"] not in added]
        container["env"] += [{"name": key, "value": value} for key, value in added.items()]
    trainer.pop("args")
    trainer["command"] = command
    trainer["resources"] = {
        "requests": {"cpu": changes.get("cpu", "50m")},
        "limits": {"memory": changes.get("memory", "1Gi")},
    }
    trainer["volumeMounts"].append({"name": "programs", "mountPath": "/programs"})
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != "state" or "state" not in changes]
    if "state" in changes:
        spec["volumes"].append({"name": "state", **changes["state"]})
    spec["volumes"].append({"name": "programs", "configMap": {"name": "programs"}})
    platform.kubectl("delete", "job", name, "--ignore-not-found", "--cascade=foreground")
    platform.apply(job)
    return TrainingPod(platform, name)


def start_steps(platform: Platform, name: str, fate: str, **changes: Any) -> TrainingPod:
    """A Job of programs/log_steps.py."""
    return start(platform, name, ["python3", "-u", "/programs/log_steps.py", name, fate], **changes)
