"""As much of a Kubernetes API server as Helm's `lookup` needs: it finds the objects that it was given, and nothing else."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Object = dict[str, Any]

RESOURCES = {
    "/api/v1": {
        "ConfigMap": "configmaps",
        "PersistentVolumeClaim": "persistentvolumeclaims",
        "Pod": "pods",
        "Secret": "secrets",
        "Service": "services",
    },
    "/apis/apps/v1": {"Deployment": "deployments", "StatefulSet": "statefulsets"},
    "/apis/batch/v1": {"Job": "jobs"},
}
"""What the chart makes, by the path of its group and version: Helm asks for the plural of each kind."""


@contextmanager
def serving(objects: list[Object]) -> Iterator[str]:
    """URL of a server with these objects, while the context lasts."""
    answers = {**_discovery(), **{_path(o): o for o in objects}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            body = json.dumps(answer or {"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"})
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: a failed test shows what Helm says."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _path(obj: Object) -> str:
    group = next(path for path, kinds in RESOURCES.items() if obj["kind"] in kinds)
    plural = RESOURCES[group][obj["kind"]]
    return f"{group}/namespaces/{obj['metadata']['namespace']}/{plural}/{obj['metadata']['name']}"


def _discovery() -> dict[str, Object]:
    """What a client asks before its first question."""
    groups = [path.removeprefix("/apis/").split("/") for path in RESOURCES if path.startswith("/apis/")]
    lists = {
        path: {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
            "resources": [
                {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
                for kind, plural in kinds.items()
            ],
        }
        for path, kinds in RESOURCES.items()
    }
    return {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": name, "versions": [{"groupVersion": f"{name}/{version}", "version": version}]}
                for name, version in groups
            ],
        },
        **lists,
    }
