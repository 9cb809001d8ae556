"""The kind cluster: made, taken up again after an accident, and deleted; only ever one that is ours."""

from __future__ import annotations

import json
import time
from pathlib import Path

from local_cluster import state, sysctls
from local_cluster.command import output, run, run_logged
from local_cluster.errors import CommandError, UserError
from local_cluster.report import say, step
from local_cluster.settings import Settings
from local_cluster.tools import Tools

NETWORK = "kind"
# A file in the node says that the cluster is ours: kind lets nobody label its containers.
MARK = "/kind/made-by-trainyard"
ANSWER_S = 180.0


def nodes(name: str, *, running: bool = False) -> list[str]:
    """Containers of the kind cluster `name`."""
    everything = [] if running else ["--all"]
    found = output(
        "docker", "ps", *everything, "--filter", f"label=io.x-k8s.kind.cluster={name}", "--format", "{{.Names}}"
    )
    return sorted(found.split())


def workload_nodes(name: str) -> list[str]:
    """The running nodes that take pods of users: the workers, or the control plane where it is alone."""
    running = nodes(name, running=True)
    return [node for node in running if not node.endswith("-control-plane")] or running


def is_ours(settings: Settings) -> bool:
    """Whether the cluster of that name was made by these scripts (also when its making was cut off)."""
    if state.read_json(settings.home / "cluster.json"):
        return True
    marked = run("docker", "cp", f"{settings.cluster}-control-plane:{MARK}", "-", check=False)
    return marked.returncode == 0


def refuse_foreign(settings: Settings) -> None:
    """Raises UserError if there is a cluster of that name that somebody else made."""
    if nodes(settings.cluster) and not is_ours(settings):
        raise UserError(
            f"There is a kind cluster '{settings.cluster}' that these scripts did not make; it was left as it is.\n"
            f"Choose another name (TRAINYARD_CLUSTER=trainyard-2 scripts/up) or delete it (kind delete cluster --name {settings.cluster})."
        )


def ensure(settings: Settings, tools: Tools, node_image: str, base: str, *, workers: int = 0) -> None:
    """A cluster that answers, with `workers` nodes beside the control plane. Raises UserError or CommandError."""
    refuse_foreign(settings)
    record = settings.home / "cluster.json"
    if nodes(settings.cluster) and state.read_json(record).get("phase") == "creating":
        say(f"cluster {settings.cluster}: an earlier start was cut off; it is made anew")
        _delete_nodes(settings, tools)
    if not nodes(settings.cluster):
        sysctls.save(settings, base)
        state.write_json(record, {"phase": "creating", "network_was_there": _network_exists()})
        _create(settings, tools, node_image, workers)
    else:
        _resume(settings, tools)
    state.write_json(record, {**state.read_json(record), "phase": "ready"})


def delete(settings: Settings, tools: Tools | None) -> bool:
    """Delete the cluster and what came with it; whether there was one. Raises UserError if it is not ours."""
    refuse_foreign(settings)
    record = state.read_json(settings.home / "cluster.json")
    existed = bool(nodes(settings.cluster))
    if existed:
        with step(f"delete the cluster {settings.cluster}"):
            _delete_nodes(settings, tools)
    if record and not record.get("network_was_there") and _network_exists() and not _network_in_use():
        run("docker", "network", "rm", NETWORK, check=False)
    return existed


def kubectl(settings: Settings, tools: Tools, *arguments: str, stdin: str | None = None) -> str:
    """Output of kubectl on this cluster. Raises CommandError."""
    command = [tools.kubectl, "--kubeconfig", str(settings.kubeconfig), "--context", settings.context, *arguments]
    return run(*command, stdin=stdin).stdout


def connect_pods(settings: Settings, tools: Tools) -> None:
    """Write the pod network of our own node image; stock nodes bring kindnet and need nothing."""
    first = f"{settings.cluster}-control-plane"
    if run("docker", "exec", first, "test", "-x", "/usr/local/bin/pod-network", check=False).returncode != 0:
        return
    ranges = _pod_ranges(settings, tools)
    for node, (own_range, _) in ranges.items():
        peers = [f"{cidr}={address}" for other, (cidr, address) in ranges.items() if other != node]
        run("docker", "exec", node, "pod-network", "10.244.0.0/16", own_range, *peers)


def _create(settings: Settings, tools: Tools, node_image: str, workers: int) -> None:
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"}, *([{"role": "worker"}] * workers)],
    }
    config_file = settings.home / "kind.json"
    config_file.write_text(json.dumps(config))
    log = settings.logs / f"cluster-{settings.cluster}.log"
    with step(f"create the kind cluster {settings.cluster}", log):
        run_logged(
            tools.kind, "create", "cluster", "--name", settings.cluster, "--image", node_image,
            "--config", config_file, "--kubeconfig", settings.kubeconfig, log=log,
        )  # fmt: skip
        _mark(settings)
        _wait_ready(settings, tools)


def _resume(settings: Settings, tools: Tools) -> None:
    """Take up a cluster whose engine, or whose containers, were stopped."""
    stopped = sorted(set(nodes(settings.cluster)) - set(nodes(settings.cluster, running=True)))
    if stopped:
        say(f"cluster {settings.cluster}: starting {', '.join(stopped)} again")
        run("docker", "start", *stopped)
    run_logged(
        tools.kind, "export", "kubeconfig", "--name", settings.cluster, "--kubeconfig", settings.kubeconfig,
        log=settings.logs / "kubeconfig.log",
    )  # fmt: skip
    if not _answers(settings, tools):
        with step(f"wait for the cluster {settings.cluster} to answer"):
            _wait_ready(settings, tools)
    else:
        connect_pods(settings, tools)
        say(f"cluster {settings.cluster}: running")


def _wait_ready(settings: Settings, tools: Tools) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not _answers(settings, tools):
        if time.monotonic() > deadline:
            raise UserError(
                f"The cluster {settings.cluster} does not answer within {ANSWER_S:.0f} s.\n"
                f"See why with `docker logs {settings.cluster}-control-plane`; scripts/down and scripts/up make a new one (its data is lost)."
            )
        time.sleep(1)
    connect_pods(settings, tools)
    kubectl(settings, tools, "wait", "nodes", "--all", "--for=condition=Ready", f"--timeout={ANSWER_S:.0f}s")
    for namespace, deployment in (("kube-system", "coredns"), ("local-path-storage", "local-path-provisioner")):
        kubectl(
            settings,
            tools,
            "-n",
            namespace,
            "rollout",
            "status",
            f"deployment/{deployment}",
            f"--timeout={ANSWER_S:.0f}s",
        )


def _answers(settings: Settings, tools: Tools) -> bool:
    try:
        return len(_pod_ranges(settings, tools)) == len(nodes(settings.cluster))
    except CommandError:
        return False


def _pod_ranges(settings: Settings, tools: Tools) -> dict[str, tuple[str, str]]:
    """Node -> (its pods' address range, its own address); nodes that have no range yet are left out."""
    listed = json.loads(kubectl(settings, tools, "get", "nodes", "--output=json", "--request-timeout=5s"))
    ranges = {}
    for node in listed["items"]:
        addresses = [each["address"] for each in node["status"].get("addresses", []) if each["type"] == "InternalIP"]
        if "podCIDR" in node["spec"] and addresses:
            ranges[node["metadata"]["name"]] = (node["spec"]["podCIDR"], addresses[0])
    return ranges


def _mark(settings: Settings) -> None:
    for node in nodes(settings.cluster):
        run("docker", "exec", node, "touch", MARK)


def _delete_nodes(settings: Settings, tools: Tools | None) -> None:
    if tools:
        unused = settings.home / "kubeconfig.deleted"
        run(tools.kind, "delete", "cluster", "--name", settings.cluster, "--kubeconfig", unused)
        Path(unused).unlink(missing_ok=True)
    if left := nodes(settings.cluster):
        run("docker", "rm", "--force", "--volumes", *left)


def _network_exists() -> bool:
    return run("docker", "network", "inspect", NETWORK, check=False).returncode == 0


def _network_in_use() -> bool:
    attached = "{{range .Containers}}{{.Name}} {{end}}"
    return bool(output("docker", "network", "inspect", "--format", attached, NETWORK).strip())
