"""What every command needs before it can touch a cluster: an engine, room on the disk, the base image, the programs."""

from __future__ import annotations

from dataclasses import dataclass

from local_cluster import decisions, engine, images, node_image, probes, tools
from local_cluster.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """The ground that a cluster stands on."""

    base: str
    """The image that all others start from."""
    source: decisions.Source
    tools: tools.Tools


def lay(settings: Settings) -> Foundation:
    """Provide it all. Raises UserError before anything is built when there is too little disk."""
    engine.ensure(settings)
    warm = probes.image_present(node_image.reference()) or bool(list(settings.cache.glob("kind-node-*.tar.zst")))
    for folder in (engine.data_folder(), settings.cache):
        decisions.check_disk(probes.free_bytes(folder), warm=warm, folder=str(folder))
    base, source = images.ensure_base(settings)
    return Foundation(base=base, source=source, tools=tools.ensure(settings, source))
