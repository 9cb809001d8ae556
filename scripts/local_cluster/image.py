"""scripts/image: build our images, and load them into the local cluster."""

from __future__ import annotations

from local_cluster import cluster, engine, images
from local_cluster.errors import UserError
from local_cluster.settings import Settings

USAGE = "Usage: scripts/image build [NAME...] | scripts/image load [NAME...]"


def image(settings: Settings, arguments: list[str]) -> None:
    """Carry out one verb. Raises UserError for an unknown verb or name."""
    verb, *names = arguments or [""]
    if verb not in ("build", "load"):
        raise UserError(USAGE)
    chosen = images.choose(names)
    engine.ensure(settings)
    base, _ = images.ensure_base(settings)
    references = images.build(settings, chosen, base)
    if verb == "load":
        nodes = cluster.workload_nodes(settings.cluster)
        if not nodes:
            raise UserError(f"No cluster {settings.cluster} runs here: scripts/up makes one.")
        images.load(settings, references, nodes)
    print(images.size_table(references))
