"""The stand-in W&B server of `wandb_server`, in a pod of the test cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.kind.platform import Platform
from tests.kind.wandb_server.store import KEY

NAME: Final = "wandb"
PORT: Final = 8080
URL: Final = f"http://{NAME}:{PORT}"
CLIENT: Final = {"WANDB_MODE": "online", "WANDB_BASE_URL": URL, "WANDB_API_KEY": KEY}
"""What a pod needs to log there."""
_CODE: Final = Path(__file__).parent / "wandb_server"


def deploy(platform: Platform) -> None:
    """Start it with nothing in it, and wait until it is ready."""
    remove(platform)
    code = {path.name: path.read_text() for path in _CODE.glob("*.py")}
    platform.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": code})
    platform.apply(_pod(platform.images["trainer"]))
    service = {"selector": {"app": NAME}, "ports": [{"port": PORT}]}
    platform.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": service})
    platform.kubectl("wait", f"pod/{NAME}", "--for=condition=Ready", "--timeout=90s")


def remove(platform: Platform) -> None:
    """Take it away."""
    for kind in ("pod", "service", "configmap"):
        platform.kubectl("delete", kind, NAME, "--ignore-not-found", "--now")


def state(platform: Platform) -> dict[str, Any]:
    """All that it has been told."""
    code = (
        f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{PORT}/standin/state').read().decode())"
    )
    found: dict[str, Any] = json.loads(platform.kubectl("exec", NAME, "--", "python3", "-c", code))
    return found


def _pod(image: str) -> dict[str, Any]:
    command = ["python3", "-m", "wandb_server", "--host=0.0.0.0", f"--port={PORT}", f"--public-url={URL}"]
    container = {
        "name": NAME,
        "image": image,
        "command": command,
        "env": [{"name": "PYTHONPATH", "value": "/code"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "code", "mountPath": "/code/wandb_server"}],
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "securityContext": security,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": NAME}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": {"app": NAME}}, "spec": spec}
