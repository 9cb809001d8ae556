"""scripts/down: take the cluster away, and undo what was done to the machine for it."""

from __future__ import annotations

import shutil

from local_cluster import cluster, engine, forward, probes, state, sysctls, tools
from local_cluster.report import say
from local_cluster.settings import Settings


def down(settings: Settings) -> None:
    """Delete this cluster; with the last one, stop and undo the rest. Raises UserError if the cluster is not ours."""
    with state.exclusive(settings.home / "lock", "scripts/down"):
        forward.stop(settings)
        if probes.engine_version()[0] is None:
            say("no Docker engine answers, so no cluster runs; start it and run this again if one is to be deleted")
        else:
            if not cluster.delete(settings, tools.find(settings)):
                say(f"there is no cluster {settings.cluster}")
            (settings.home / "cluster.json").unlink(missing_ok=True)
            if not _others(settings):
                sysctls.restore(settings)
                engine.stop(settings)
        shutil.rmtree(settings.home)
    say(f"kept for the next time: {settings.cache}, the images on the engine (`docker image ls 'trainyard/*'`)")


def _others(settings: Settings) -> list[str]:
    """Other clusters of ours on this machine."""
    return [path.parent.name for path in settings.state.glob("clusters/*/cluster.json")]
