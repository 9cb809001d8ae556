"""scripts/up: from a fresh machine to a tracked training Job. Safe to repeat."""

from __future__ import annotations

import shlex
import time

from local_cluster import cluster, engine, forward, foundation, images, release, state
from local_cluster.report import say
from local_cluster.settings import NAMESPACE, REPOSITORY, Settings
from local_cluster.tools import Tools


def up(settings: Settings) -> None:
    """Bring it all up and say where it is. Raises UserError or CommandError."""
    began = time.monotonic()
    with state.exclusive(settings.home / "lock", "scripts/up"):
        forward.check_port(settings)
        engine.ensure(settings)
        cluster.refuse_foreign(settings)
        ground = foundation.lay(settings, images.IMAGES, cluster=True)
        assert ground.node is not None
        cluster.ensure(settings, ground.tools, ground.node, ground.base)
        images.load(settings, ground.references, cluster.workload_nodes(settings.cluster))
        ready_s = release.install(settings, ground.tools, ground.references)
        finished = release.await_first_job(settings, ground.tools)
        forward.ensure(settings, ground.tools)
        memory = release.idle_memory(settings, ground.tools)
        _write_environment(settings, ground.tools)
    say(f"all ready: {time.monotonic() - began:.0f} s in all, {ready_s:.0f} s of it for helm install")
    print(_summary(settings, ground.references, finished, memory))


def _summary(
    settings: Settings, references: dict[str, str], finished: release.FinishedRun, memory: dict[str, int]
) -> str:
    used = ", ".join(f"{pod} {mebibytes} MiB" for pod, mebibytes in sorted(memory.items()))
    manifest = (REPOSITORY / "k8s/01-train-digits.yaml").relative_to(REPOSITORY)
    return "\n".join(
        [
            "",
            images.size_table(references),
            "",
            f"MLflow       {forward.url(settings)}   (until scripts/down)",
            f"training Job {finished.job}",
            *(f"  {line}" for line in finished.lines),
            f"memory       {used or 'not reported yet'}; {sum(memory.values())} MiB in all",
            "",
            "Next, after",
            f"  source {shlex.quote(str(settings.home / 'env'))}",
            "try",
            f"  kubectl apply -f {manifest}   # train once more, without Helm",
            "  kubectl logs -f job/train-digits            # watch it",
            "  helm test trainyard                         # prove tracking and artifacts end to end",
            "and `scripts/down` takes it all away.",
        ]
    )


def _write_environment(settings: Settings, tools: Tools) -> None:
    """A file to `source`: it points kubectl, helm and MLflow clients at this cluster, in that shell only."""
    folders = {str(tools_path.rsplit("/", 1)[0]) for tools_path in (tools.kubectl, tools.helm, tools.kind)}
    context = ["config", "set-context", settings.context, f"--namespace={NAMESPACE}"]
    cluster.kubectl(settings, tools, *context)
    exports = {
        "KUBECONFIG": str(settings.kubeconfig),
        "HELM_NAMESPACE": NAMESPACE,
        "MLFLOW_TRACKING_URI": forward.url(settings),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
    lines.append(f"export PATH={shlex.quote(':'.join(sorted(folders)))}:$PATH")
    (settings.home / "env").write_text("\n".join(lines) + "\n")
