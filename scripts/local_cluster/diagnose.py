"""What explains a failure in a cluster, on one screen: pods, events, and the logs of pods that are not well."""

from __future__ import annotations

import json
from typing import Any

from local_cluster.cluster import kubectl
from local_cluster.errors import CommandError
from local_cluster.settings import Settings
from local_cluster.tools import Tools

EVENT_LINES = 15
LOG_LINES = 15


def explain(settings: Settings, tools: Tools, namespace: str) -> str:
    """State of a namespace, told for a person who has to find out what went wrong. Never raises for a cluster that is away."""
    try:
        pods = json.loads(kubectl(settings, tools, "-n", namespace, "get", "pods", "--output=json"))["items"]
        parts = [
            _headed("pods", kubectl(settings, tools, "-n", namespace, "get", "pods", "--output=wide")),
            _headed("events", _events(settings, tools, namespace)),
        ]
        for pod in pods:
            for container in _unwell(pod):
                parts.append(_logs(settings, tools, namespace, pod["metadata"]["name"], container))
    except CommandError as failed:
        return f"The cluster could not be asked: {failed}"
    return "\n".join(parts)


def _events(settings: Settings, tools: Tools, namespace: str) -> str:
    listed = kubectl(settings, tools, "-n", namespace, "get", "events", "--sort-by=.lastTimestamp")
    return "\n".join(listed.splitlines()[-EVENT_LINES:])


def _unwell(pod: dict[str, Any]) -> list[str]:
    status = pod["status"]
    if status.get("phase") == "Succeeded":
        return []
    every = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
    return [
        each["name"]
        for each in every
        if each.get("restartCount")
        or (not each.get("ready") and each["state"].get("waiting", {}).get("reason") != "PodInitializing")
    ]


def _logs(settings: Settings, tools: Tools, namespace: str, pod: str, container: str) -> str:
    parts = []
    for previous in ([], ["--previous"]):
        try:
            arguments = ["-n", namespace, "logs", pod, "-c", container, f"--tail={LOG_LINES}", *previous]
            parts.append(
                _headed(
                    f"log of {pod}, {container}{' (before its restart)' if previous else ''}",
                    kubectl(settings, tools, *arguments),
                )
            )
        except CommandError:
            continue  # not started yet, or never restarted
    return "\n".join(parts)


def _headed(heading: str, text: str) -> str:
    return f"--- {heading}\n{text.rstrip() or '(nothing)'}"
