"""What every command needs before it can touch a cluster: an engine, room on the disk, images, the programs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from local_cluster import decisions, engine, images, node_image, probes, tools
from local_cluster.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """The ground that a cluster stands on."""

    base: str
    """The image that all others start from."""
    tools: tools.Tools
    references: dict[str, str]
    """Name -> reference of each image that was wanted."""
    node: str | None
    """The image of kind's nodes; None where no cluster was wanted."""


def lay(settings: Settings, wanted: tuple[images.Image, ...], *, cluster: bool) -> Foundation:
    """Provide it all on the engine that answers. Raises UserError before anything is built when there is too little disk."""
    warm = probes.image_present(node_image.reference()) or bool(list(settings.cache.glob("kind-node-*.tar.zst")))
    for folder in (engine.data_folder(), settings.cache):
        decisions.check_disk(probes.free_bytes(folder), warm=warm, folder=str(folder))
    base, source = images.ensure_base(settings)
    # Image builds mostly wait for downloads while Go compiles, so they go side by side.
    with ThreadPoolExecutor(max_workers=1) as beside:
        building = beside.submit(images.build, settings, wanted, base)
        programs = tools.ensure(settings, source)
        node = node_image.ensure(settings, source, base) if cluster else None
        references = building.result()
    return Foundation(base=base, tools=programs, references=references, node=node)
