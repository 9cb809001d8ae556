"""What the kind tests do to a cluster, and how they look at it: kubectl, helm, REST, S3 and SQL, as a user would."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
import requests
from botocore.exceptions import BotoCoreError, ClientError
from local_cluster import cluster, release
from local_cluster.command import run
from local_cluster.errors import CommandError
from local_cluster.settings import NAMESPACE, RELEASE, REPOSITORY, Settings, read_settings
from local_cluster.tools import Tools

IMAGE_VARIABLE = re.compile(r"TRAINYARD_IMAGE_(POSTGRES|OBJECTSTORE|MLFLOW|TRAINER)")


def connect() -> Platform:
    """The cluster that scripts/test has made and named in the environment."""
    tools = Tools(kind=os.environ["KIND"], kubectl=os.environ["KUBECTL"], helm=os.environ["HELM"])
    images = {
        name.split("_")[-1].lower(): value for name, value in os.environ.items() if IMAGE_VARIABLE.fullmatch(name)
    }
    return Platform(settings=read_settings(), tools=tools, images=images)


@dataclass(kw_only=True)
class Platform:
    """A release in a cluster, seen from outside."""

    settings: Settings
    tools: Tools
    images: dict[str, str]
    """Name -> reference of the images under test."""
    install_s: float = 0.0
    """Seconds the installation took until all was ready."""
    _forwards: dict[str, Forward] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Platform:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- Kubernetes and Helm

    def kubectl(self, *arguments: str, stdin: str | None = None, namespace: str = NAMESPACE) -> str:
        """Output of kubectl. Raises CommandError."""
        return cluster.kubectl(self.settings, self.tools, "--namespace", namespace, *arguments, stdin=stdin)

    def objects(self, kind: str, selector: str = "", namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        """All objects of a kind."""
        found = json.loads(self.kubectl("get", kind, f"--selector={selector}", "--output=json", namespace=namespace))
        items: list[dict[str, Any]] = found["items"]
        return items

    def secret(self, name: str) -> dict[str, str]:
        """The decoded content of a Secret."""
        data = json.loads(self.kubectl("get", "secret", name, "--output=json")).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def apply(self, manifest: dict[str, Any], namespace: str = NAMESPACE) -> None:
        """Apply one object."""
        self.kubectl("apply", "--filename=-", stdin=json.dumps(manifest), namespace=namespace)

    def helm(self, *arguments: str) -> str:
        """Output of helm. Raises CommandError."""
        return release.helm(self.settings, self.tools, *arguments)

    def shell(self, command: str) -> str:
        """Output of a command line out of a document, run from the repository's root on this cluster."""
        folders = {str(Path(program).parent) for program in (self.tools.kubectl, self.tools.helm)}
        path = os.pathsep.join([*sorted(folders), os.environ["PATH"]])
        environment = {"KUBECONFIG": str(self.settings.kubeconfig), "PATH": path}
        return run("bash", "-ec", command, env=environment, cwd=REPOSITORY).stdout

    def install(self) -> None:
        """Install the release, or upgrade it back to what the small profile says."""
        self.install_s = release.install(self.settings, self.tools, self.images)
        # As `scripts/up` leaves it: commands of documents name no namespace.
        self.kubectl("config", "set-context", self.settings.context, f"--namespace={NAMESPACE}")

    def upgrade(self, *arguments: str) -> None:
        """`helm upgrade` with the small profile and more arguments, until ready."""
        self.helm(
            "upgrade", RELEASE, str(release.CHART), "--namespace", NAMESPACE, "--values", str(release.SMALL_PROFILE),
            *release.image_values(self.images), "--wait", "--timeout=300s", *arguments,
        )  # fmt: skip

    def wait_for(self, what: str, check: Callable[[], Any], timeout_s: float = 180) -> Any:
        """Wait until `check` gives something true, and return it; it may raise what clients raise while a server is away."""
        deadline = time.monotonic() + timeout_s
        last: object = None
        while time.monotonic() < deadline:
            try:
                if last := check():
                    return last
            except (CommandError, OSError, BotoCoreError, ClientError) as failed:
                last = failed
            time.sleep(0.5)
        raise AssertionError(f"waited {timeout_s:.0f} s for {what}; last seen: {last}")

    def job_end(self, name: str, timeout_s: float = 300) -> str:
        """Wait for a Job to end: "Complete" or "Failed"."""

        def ended() -> str | None:
            status = json.loads(self.kubectl("get", "job", name, "--output=json"))["status"]
            met = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
            return next((state for state in ("Complete", "Failed") if state in met), None)

        found: str = self.wait_for(f"job/{name} to end", ended, timeout_s)
        return found

    def client_pod(self, name: str, command: list[str]) -> None:
        """Start a user's pod: any container with the client contract and nothing else. The image is the trainer's."""
        contract = [{"configMapRef": {"name": f"{RELEASE}-client"}}, {"secretRef": {"name": f"{RELEASE}-client"}}]
        container = {
            "name": "main",
            "image": self.images["trainer"],
            "command": command,
            "envFrom": contract,
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {"restartPolicy": "Never", "securityContext": security, "containers": [container]}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

    def pod_end(self, name: str) -> str:
        """Wait for a pod to end: "Succeeded" or "Failed"."""

        def ended() -> str | None:
            phase: str = json.loads(self.kubectl("get", "pod", name, "--output=json"))["status"]["phase"]
            return phase if phase in ("Succeeded", "Failed") else None

        found: str = self.wait_for(f"pod/{name} to end", ended)
        return found

    def training_jobs(self) -> dict[str, dict[str, Any]]:
        """The chart's training Jobs by name."""
        return {job["metadata"]["name"]: job for job in self.objects("jobs", release.TRAINING_JOBS)}

    def wait_ready(self, timeout_s: float = 180) -> None:
        """Wait until every workload of the release has all its replicas ready."""
        for kind in ("deployment", "statefulset"):
            for workload in self.objects(kind, f"app.kubernetes.io/instance={RELEASE}"):
                target = f"{kind}/{workload['metadata']['name']}"
                self.kubectl("rollout", "status", target, f"--timeout={timeout_s:.0f}s")

    # -- MLflow, S3 and Postgres

    def mlflow(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Answer of MLflow's REST API, through a port-forward that is made anew when its pod is gone."""

        def ask() -> dict[str, Any]:
            address = self._forward("mlflow", 5000)
            arguments: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
            answer = requests.request(method, f"{address}/api/2.0/mlflow/{path}", timeout=30, **arguments)
            if answer.status_code >= 500:
                answer.raise_for_status()
            assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
            return {"answer": answer.json()}

        wrapped: dict[str, Any] = self.wait_for(f"an answer of MLflow to {method} {path}", ask, 90)
        answer: dict[str, Any] = wrapped["answer"]
        return answer

    def download(self, run_id: str, path: str) -> bytes:
        """An artifact through the server, as the UI gets it."""
        address = self._forward("mlflow", 5000)
        answer = requests.get(f"{address}/get-artifact", params={"run_id": run_id, "path": path}, timeout=30)
        answer.raise_for_status()
        return answer.content

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        """All runs of an experiment, newest first; none if there is no such experiment."""
        found = self.mlflow("POST", "experiments/search", filter=f"name = '{experiment}'", max_results=1).get(
            "experiments", []
        )
        if not found:
            return []
        ids = [found[0]["experiment_id"]]
        runs: list[dict[str, Any]] = self.mlflow("POST", "runs/search", experiment_ids=ids, max_results=100).get(
            "runs", []
        )
        return runs

    def run_of_job(self, job: str, experiment: str = "digits") -> dict[str, Any]:
        """The one run that a Job has logged."""
        uid = json.loads(self.kubectl("get", "job", job, "--output=json"))["metadata"]["uid"]
        mine = [run for run in self.runs(experiment) if tags(run).get("trainyard.job_uid") == uid]
        assert len(mine) == 1, f"job/{job} has {len(mine)} runs"
        return mine[0]

    def history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """(step, value) of every point of a metric."""
        answer = self.mlflow("GET", "metrics/get-history", run_id=run_id, metric_key=key, max_results=25000)
        return [(int(point["step"]), float(point["value"])) for point in answer.get("metrics", [])]

    def sql(self, statement: str, database: str = "mlflow") -> list[list[str]]:
        """Rows of a statement, run by the superuser on the server's own socket."""
        command = ["psql", "--host=/tmp", "--username=postgres", f"--dbname={database}", "-Atc", statement]
        answer = self.kubectl("exec", f"{RELEASE}-postgres-0", "--container=postgres", "--", *command)
        return [line.split("|") for line in answer.splitlines()]

    def s3_objects(self) -> dict[str, bytes]:
        """Every object of the artifact bucket, read over S3 and past MLflow."""
        # Wrapped, because an empty bucket is an answer too.
        read: dict[str, dict[str, bytes]] = self.wait_for(
            "the object store to answer", lambda: {"objects": self._read_objects()}, 90
        )
        return read["objects"]

    def _read_objects(self) -> dict[str, bytes]:
        keys = self.secret(f"{RELEASE}-objectstore")
        client = boto3.client(
            "s3", endpoint_url=self._forward("objectstore", 8333), region_name="us-east-1",
            aws_access_key_id=keys["access-key"], aws_secret_access_key=keys["secret-key"],
        )  # fmt: skip
        bucket = json.loads(self.kubectl("get", "configmap", f"{RELEASE}-client", "--output=json"))["data"][
            "TRAINYARD_BUCKET"
        ]
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        names = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return {name: client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}

    def _forward(self, component: str, port: int) -> str:
        current = self._forwards.get(component)
        if current is None or not current.alive():
            current = self._stack.enter_context(forward(self, component, port))
            self._forwards[component] = current
        return current.address


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A kubectl port-forward."""

    process: subprocess.Popen[str]
    address: str

    def alive(self) -> bool:
        """Whether it still carries: kubectl ends when the pod behind it does."""
        return self.process.poll() is None


@contextmanager
def forward(platform: Platform, component: str, port: int) -> Iterator[Forward]:
    """Forward a free port of 127.0.0.1 to a Service of the release."""
    command = [
        platform.tools.kubectl, "--kubeconfig", str(platform.settings.kubeconfig), "--context", platform.settings.context,
        "--namespace", NAMESPACE, "port-forward", f"service/{RELEASE}-{component}", f":{port}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", first)
        if found is None:
            assert process.stderr is not None
            raise CommandError(" ".join(command), 1, process.stderr.read())
        yield Forward(process=process, address=f"http://127.0.0.1:{found.group(1)}")
    finally:
        process.terminate()
        process.wait()


def tags(run: dict[str, Any]) -> dict[str, str]:
    """Tags of a run as a dict."""
    return {each["key"]: each["value"] for each in run["data"].get("tags", [])}


def params(run: dict[str, Any]) -> dict[str, str]:
    """Parameters of a run as a dict."""
    return {each["key"]: each["value"] for each in run["data"].get("params", [])}


def metrics(run: dict[str, Any]) -> dict[str, float]:
    """Latest metrics of a run as a dict."""
    return {each["key"]: float(each["value"]) for each in run["data"].get("metrics", [])}


def manifest(name: str) -> str:
    """Path of one of the manifests that researchers apply."""
    return str(REPOSITORY / "k8s" / name)
