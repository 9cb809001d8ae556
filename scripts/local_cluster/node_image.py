"""The image that kind's nodes are made of."""

from __future__ import annotations

import os
from pathlib import Path

from local_cluster import decisions, engine, probes, state, tools
from local_cluster.command import pipe, run, run_logged
from local_cluster.errors import UserError
from local_cluster.report import say, step
from local_cluster.settings import REPOSITORY, Settings, read_versions
from local_cluster.tools import content_key


def key() -> str:
    """What a built node image is named by: a hash of everything it is made from."""
    return content_key(REPOSITORY / "images/kind-node")


def reference() -> str:
    """Name and tag of a node image built here."""
    return f"trainyard/kind-node:{key()}"


def choose(settings: Settings, source: decisions.Source) -> decisions.NodeImageChoice:
    """How this machine comes by its node image."""
    return decisions.choose_node_image(
        decisions.NodeImageFacts(
            chosen=os.environ.get("KIND_NODE_IMAGE"),
            built_present=probes.image_present(reference()),
            cache_file_present=_cache_file(settings).exists(),
            source=source,
        )
    )


def ensure(settings: Settings, source: decisions.Source, base: str) -> str:
    """Name of a node image that is on the engine or that kind can pull. Raises UserError or CommandError."""
    choice = choose(settings, source)
    say(f"node image: {choice.why}")
    if choice.action == "chosen":
        chosen = os.environ["KIND_NODE_IMAGE"]
        if error := probes.pull(chosen):
            raise UserError(f"KIND_NODE_IMAGE is '{chosen}', which is not on the engine and cannot be pulled: {error}")
        return chosen
    if choice.action == "stock":
        return _pull_stock()
    if choice.action == "load":
        engine.install_build_packages(settings)
        unpack = ["zstd", "--decompress", "--stdout", str(_cache_file(settings))]
        with step("load the node image from the cache"):
            pipe(unpack, ["docker", "load", "--quiet"], settings.logs / "node-image-load.log")
    if choice.action == "build":
        _build(settings, base)
    return reference()


def _pull_stock() -> str:
    stock = read_versions()["STOCK_NODE_IMAGE"]
    if not probes.image_present(stock):
        with step(f"pull {stock.split('@')[0]}"):
            run("docker", "pull", "--quiet", stock)
    return stock


def _build(settings: Settings, base: str) -> None:
    programs = tools.build(settings, "kubernetes", "etcd", "coredns", "local-path-provisioner", "kind")
    engine.install_build_packages(settings)
    log = settings.logs / "node-image.log"
    with state.exclusive(settings.state / "build-kind-node.lock", "a build of the node image", wait=True):
        if probes.image_present(reference()):  # whoever held the lock has built it
            return
        with step("build the node image", log):
            script = REPOSITORY / "images/kind-node/build.sh"
            run_logged(script, reference(), base, programs, log=log, env=tools.ensure_go(settings))
        file = _cache_file(settings)
        partial = file.with_suffix(".partial")
        with step("keep the node image in the cache"):
            pack = ["zstd", "--quiet", "--force", "-3", "-o", str(partial), "-"]
            pipe(["docker", "save", reference()], pack, settings.logs / "node-image-save.log")
            for old in file.parent.glob("kind-node-*.tar.zst"):
                old.unlink()
            partial.rename(file)


def _cache_file(settings: Settings) -> Path:
    return settings.cache / f"kind-node-{key()}.tar.zst"
