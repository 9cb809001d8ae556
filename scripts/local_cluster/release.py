"""The Helm release in a cluster: installed, upgraded, and taken up again when an installation was cut off."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from local_cluster import diagnose
from local_cluster.cluster import kubectl
from local_cluster.command import run
from local_cluster.errors import CommandError, UserError
from local_cluster.report import say, step
from local_cluster.settings import NAMESPACE, RELEASE, REPOSITORY, Settings
from local_cluster.tools import Tools

CHART = REPOSITORY / "charts/trainyard"
SMALL_PROFILE = CHART / "profiles/small.yaml"
INSTALL_TIMEOUT_S = 300
JOB_TIMEOUT_S = 600
TRAINING_JOBS = f"trainyard.dev/kind=training,app.kubernetes.io/instance={RELEASE}"
"""Selects the Jobs that the chart has made."""
POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What the first training Job printed at its end."""

    job: str
    lines: list[str]


def helm(settings: Settings, tools: Tools, *arguments: str | Path) -> str:
    """Output of helm on this cluster. Raises CommandError."""
    options = ["--kubeconfig", str(settings.kubeconfig), "--kube-context", settings.context]
    # Helm's own folders stay under ours, so that nothing is left in the user's home.
    return run(tools.helm, *arguments, *options, env={"HELM_CACHE_HOME": str(settings.cache / "helm")}).stdout


def image_values(references: dict[str, str]) -> list[str]:
    """Helm arguments that make the chart use these images."""
    arguments = []
    for name, reference in references.items():
        arguments += ["--set", f"images.{name}.tag={reference.split(':')[1]}"]
    return arguments


def ensure_namespace(settings: Settings, tools: Tools, namespace: str) -> None:
    """The namespace, with restricted Pod Security enforced: a pod that needs more is refused, not run."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    kubectl(settings, tools, "apply", "--filename=-", stdin=json.dumps(manifest))


def install(settings: Settings, tools: Tools, references: dict[str, str]) -> float:
    """Install or upgrade the release and wait until it is ready; seconds that took. Raises UserError."""
    ensure_namespace(settings, tools, NAMESPACE)
    _clear_cut_off(settings, tools)
    began = time.monotonic()
    try:
        with step(f"helm upgrade --install {RELEASE} charts/trainyard --values profiles/small.yaml"):
            helm(
                settings, tools, "upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE,
                "--values", SMALL_PROFILE, *image_values(references), "--wait", f"--timeout={INSTALL_TIMEOUT_S}s",
            )  # fmt: skip
    except CommandError as failed:
        raise UserError(
            f"The release {RELEASE} did not become ready.\n{failed}\n{diagnose.explain(settings, tools, NAMESPACE)}"
        ) from failed
    return time.monotonic() - began


def await_first_job(settings: Settings, tools: Tools) -> FinishedRun:
    """Wait for the chart's training Job to end. Raises UserError if it fails or takes too long."""
    deadline = time.monotonic() + JOB_TIMEOUT_S
    with step("run the first training Job (a small CNN on handwritten digits)"):
        while True:
            jobs = json.loads(
                kubectl(settings, tools, "-n", NAMESPACE, "get", "jobs", "-l", TRAINING_JOBS, "--output=json")
            )["items"]
            conditions = {
                each["type"] for job in jobs for each in job["status"].get("conditions", []) if each["status"] == "True"
            }
            if jobs and "Complete" in conditions:
                break
            if "Failed" in conditions or time.monotonic() > deadline:
                why = "failed" if "Failed" in conditions else f"did not end within {JOB_TIMEOUT_S} s"
                raise UserError(f"The first training Job {why}.\n{diagnose.explain(settings, tools, NAMESPACE)}")
            time.sleep(POLL_S)
    name = jobs[0]["metadata"]["name"]
    log = kubectl(settings, tools, "-n", NAMESPACE, "logs", f"job/{name}")
    wanted = ("run: ", "test/accuracy: ", "test/loss: ", "model: ")
    return FinishedRun(job=name, lines=[line for line in log.splitlines() if line.startswith(wanted)])


def idle_memory(settings: Settings, tools: Tools) -> dict[str, int]:
    """Working set of each running pod of the namespace, in MiB, as the kubelet reports it."""
    usage: dict[str, int] = {}
    listed = json.loads(kubectl(settings, tools, "get", "nodes", "--output=json"))["items"]
    for node in (each["metadata"]["name"] for each in listed):
        summary = json.loads(kubectl(settings, tools, "get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
        for pod in summary["pods"]:
            memory = pod.get("memory", {}).get("workingSetBytes")
            if pod["podRef"]["namespace"] == NAMESPACE and memory:
                usage[pod["podRef"]["name"]] = memory // 2**20
    return usage


def _clear_cut_off(settings: Settings, tools: Tools) -> None:
    """Helm refuses to touch a release whose last operation was killed; volumes outlive its removal."""
    cut_off = [
        "list",
        "--pending",
        "--uninstalling",
        "--filter",
        f"^{RELEASE}$",
        "--namespace",
        NAMESPACE,
        "--output=json",
    ]
    for release in json.loads(helm(settings, tools, *cut_off)):
        say(f"release {RELEASE}: an earlier installation was cut off ({release['status']}); it is done again")
        helm(settings, tools, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
