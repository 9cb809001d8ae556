"""Renders the chart with the real helm and hands out the objects, parsed."""

import base64
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "trainyard"
PROFILES = sorted((CHART / "profiles").glob("*.yaml"))
NAMESPACE = "ml"

Object = dict[str, Any]
"""One Kubernetes object, or a part of one."""


class RenderError(Exception):
    """Helm refused the values; the message is what it printed."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One way to install the chart."""

    values: Mapping[str, Any] = field(default_factory=dict)
    profile: Path | None = None
    release: str = "trainyard"
    chart: Path = CHART
    kube_version: str = "1.34"
    api_server: str = ""
    """URL of a cluster that templates may look into; empty for none."""
    rendering: int = 1
    """Renderings are remembered; another number renders anew, with new generated passwords."""

    def render(self) -> list[Object]:
        """All objects that the chart makes, hooks too. Raises RenderError if Helm refuses the values."""
        values = json.dumps(self.values, sort_keys=True)
        return _render(
            values, self.profile, self.release, self.chart, self.kube_version, self.api_server, self.rendering
        )

    def one(self, kind: str, name: str) -> Object:
        """The object of that kind whose name is, or ends in, the given one."""
        found = [
            o for o in self.kind(kind) if o["metadata"]["name"] == name or o["metadata"]["name"].endswith(f"-{name}")
        ]
        assert len(found) == 1, f"{len(found)} objects {kind} {name}; there are {[describe(o) for o in self.render()]}"
        return found[0]

    def kind(self, kind: str) -> list[Object]:
        """All objects of one kind."""
        return [o for o in self.render() if o["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        """Names of all objects of one kind."""
        return {o["metadata"]["name"] for o in self.kind(kind)}


def helm(*arguments: str, stdin: str = "") -> str:
    """Runs helm (of $HELM, else on PATH). Raises RenderError with what it printed if it fails."""
    binary = os.environ.get("HELM") or shutil.which("helm")
    assert binary, "helm is neither on PATH nor named by the environment variable HELM"
    # No cluster: what is rendered must not depend on what the tester happens to be connected to.
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run(
        [binary, *arguments], input=stdin, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RenderError(done.stdout + done.stderr)
    return done.stdout


@functools.cache
def _render(
    values: str,
    profile: Path | None,
    release: str,
    chart: Path,
    kube_version: str,
    api_server: str,
    _rendering: int,
) -> list[Object]:
    files = ["--values", str(profile)] if profile else []
    if api_server:
        files += ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", api_server]
    command = ["template", release, str(chart), "--namespace", NAMESPACE, "--kube-version", kube_version]
    text = helm(*command, *files, "--values", "-", stdin=values)
    return [o for o in yaml.load_all(text, Loader=yaml.CSafeLoader) if o is not None]


def describe(obj: Object) -> str:
    """Kind and name, for messages."""
    return f"{obj['kind']}/{obj['metadata']['name']}"


def pod_template(obj: Object) -> Object | None:
    """The pod (metadata and spec) that an object makes, if it makes one."""
    if obj["kind"] == "Pod":
        return obj
    template: Object | None = (obj.get("spec") or {}).get("template")
    return template if template and "containers" in template.get("spec", {}) else None


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Description and pod template of every object that makes pods."""
    for obj in objects:
        if template := pod_template(obj):
            yield describe(obj), template


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Description and spec of every container, init containers too."""
    for where, pod in pods(objects):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{where} container {container['name']}", container


def container(pod: Object, name: str) -> Object:
    """One container of a workload, by name."""
    spec = pod_spec(pod)
    return next(c for c in [*spec.get("initContainers", []), *spec["containers"]] if c["name"] == name)


def environment(spec: Object) -> dict[str, str]:
    """Plain environment variables of a container; those from Secrets or fields are left out."""
    return {e["name"]: e["value"] for e in spec.get("env", []) if "value" in e}


def secret_keys(spec: Object) -> dict[str, tuple[str, str]]:
    """Variables that a container takes from Secrets, as (Secret, key)."""
    keys = {e["name"]: e["valueFrom"].get("secretKeyRef") for e in spec.get("env", []) if "valueFrom" in e}
    return {name: (key["name"], key["key"]) for name, key in keys.items() if key}


def server(scenario: Scenario) -> Object:
    """The tracking server's container."""
    return container(scenario.one("Deployment", "mlflow"), "mlflow")


def pod_spec(obj: Object) -> Object:
    """Spec of the pods that a workload makes."""
    template = pod_template(obj)
    assert template is not None, f"{describe(obj)} makes no pods"
    spec: Object = template["spec"]
    return spec


def secret_data(secret: Object) -> dict[str, str]:
    """Decoded contents of a Secret."""
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}


def strings(node: Any, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[str]:
    """Every string inside a parsed document, keys too."""
    if isinstance(node, str):
        if wanted(node):
            yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from strings(key, wanted)
            yield from strings(value, wanted)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value, wanted)
