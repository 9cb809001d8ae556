"""The choices between a stock machine and a closed network, made from facts and from nothing else.

No function here asks the machine anything: `probes` does, and tests give other answers in its place.
Each choice carries the reason that is shown to the person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from local_cluster.errors import UserError

Source = Literal["registry", "packages"]
"""Where the foundations come from: pulled from a container registry, or built from package mirrors."""

MINIMUM_DEBIAN = 12
GIGABYTE = 10**9
# Measured with `docker system df` and `du` around a run (closed network, 2026-11); a margin of a quarter is added.
NEEDED_COLD_BYTES = 24 * GIGABYTE
NEEDED_WARM_BYTES = 8 * GIGABYTE


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What is known about Docker on this machine."""

    server_version: str | None
    """Version of the engine that answers; None if none does."""
    error: str
    """What the client said when none answered; empty if there is no client."""
    docker_host: str | None
    """DOCKER_HOST, or the endpoint of a context other than the default."""
    dockerd_version: str | None
    """Version of an installed engine, running or not."""
    root: bool
    debian: int | None
    """Major version of Debian; None on anything else."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """What to do about the engine."""

    action: Literal["use", "start", "install"]
    why: str


def choose_engine(facts: EngineFacts) -> EngineChoice:
    """Use the engine that answers; else start, or install and start, one of our own.

    Raises UserError when none answers and none can be started from here.
    """
    if facts.server_version:
        return EngineChoice(action="use", why=f"Docker {facts.server_version} answers")
    said = f" It says: {facts.error.strip()}" if facts.error.strip() else " There is no docker command."
    if "permission denied" in facts.error:
        raise UserError(
            f"Docker runs, but you may not use it.{said}\nAdd yourself to its group (`sudo usermod -aG docker $USER`, then log in again)."
        )
    if facts.docker_host:
        raise UserError(
            f"No Docker engine answers at {facts.docker_host}.{said}\nStart that engine, or unset DOCKER_HOST to use the local one."
        )
    if not facts.root or facts.debian is None or facts.debian < MINIMUM_DEBIAN:
        raise UserError(
            f"No Docker engine answers.{said}\nStart it (Docker Desktop, or `sudo systemctl start docker`) and run this again. "
            f"Only root on Debian {MINIMUM_DEBIAN} or newer can have one installed from here."
        )
    if _major(facts.dockerd_version) >= 26:
        return EngineChoice(
            action="start", why=f"no engine answers; Docker {facts.dockerd_version} is installed and will be started"
        )
    # Debian 12's own 20.10 cannot start privileged containers without CAP_SYS_RESOURCE.
    return EngineChoice(
        action="install", why="no engine answers; Debian trixie's docker.io will be installed and started"
    )


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What is known about where foundations can come from."""

    built_base_present: bool
    """Our own base image is on the engine: this machine took the closed way before."""
    pull_error: str | None
    """What pulling the stock base image said; None if it is there."""
    root: bool
    debian: int | None


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """Which way to take, and why."""

    source: Source
    why: str


def choose_source(facts: SourceFacts) -> SourceChoice:
    """Prefer the registry; build from packages where none answers. Raises UserError where neither can work."""
    if facts.built_base_present:
        return SourceChoice(source="packages", why="closed network: the base image built from packages is cached here")
    if facts.pull_error is None:
        return SourceChoice(source="registry", why="a container registry answers: stock images are pulled")
    reason = facts.pull_error.strip().splitlines()[-1] if facts.pull_error.strip() else "no answer"
    if facts.root and facts.debian is not None and facts.debian >= MINIMUM_DEBIAN:
        return SourceChoice(
            source="packages",
            why=f"closed network: no container registry answers ({reason}), so images are built from packages",
        )
    raise UserError(
        f"No container registry answers ({reason}), and images can be built from packages only by root on Debian {MINIMUM_DEBIAN} or newer.\n"
        "Let Docker reach a registry (try `docker pull debian:trixie-slim`), or run this as root on such a machine."
    )


@dataclass(frozen=True, kw_only=True)
class NodeImageFacts:
    """What is known about the image that kind's nodes are made of."""

    chosen: str | None
    """KIND_NODE_IMAGE."""
    built_present: bool
    cache_file_present: bool
    source: Source


@dataclass(frozen=True, kw_only=True)
class NodeImageChoice:
    """How to come by the node image, and why."""

    action: Literal["chosen", "present", "load", "stock", "build"]
    why: str


def choose_node_image(facts: NodeImageFacts) -> NodeImageChoice:
    """The order of choice: the user's word, what is here, the cache, the stock image, a build."""
    if facts.chosen:
        return NodeImageChoice(action="chosen", why=f"KIND_NODE_IMAGE says {facts.chosen}")
    if facts.built_present:
        return NodeImageChoice(action="present", why="built before and still on the engine")
    if facts.cache_file_present:
        return NodeImageChoice(action="load", why="built before and loaded from the cache")
    if facts.source == "registry":
        return NodeImageChoice(action="stock", why="pulled from the registry")
    return NodeImageChoice(action="build", why="built from Debian and the Go module proxy; about 15 minutes, once")


@dataclass(frozen=True, kw_only=True)
class ToolFacts:
    """What is known about one of kind, kubectl and helm."""

    name: str
    wanted: str
    """The pinned version, as in v1.34.4."""
    cached: bool
    """The pinned version is in our cache."""
    installed: str | None
    """Version found on PATH."""
    source: Source


ToolAction = Literal["cached", "installed", "download", "build"]


def choose_tool(facts: ToolFacts) -> ToolAction:
    """Our own copy first (it is the tested one), then a fitting one of the user's, then the release, then a build."""
    if facts.cached:
        return "cached"
    if facts.installed and _fits(facts.name, facts.installed, facts.wanted):
        return "installed"
    return "download" if facts.source == "registry" else "build"


def check_disk(free_bytes: int, *, warm: bool, folder: str) -> None:
    """Raises UserError when `folder` has too little room for what is about to be built there."""
    needed = NEEDED_WARM_BYTES if warm else NEEDED_COLD_BYTES
    if free_bytes < needed:
        raise UserError(
            f"Too little disk space: {folder} has {free_bytes / GIGABYTE:.1f} GB free, and this needs {needed / GIGABYTE:.0f} GB.\n"
            "Free some (`docker system df` shows what Docker holds, `docker system prune` drops what nothing uses) and run this again."
        )


def _fits(name: str, installed: str, wanted: str) -> bool:
    have, want = _numbers(installed), _numbers(wanted)
    if name == "kubectl":  # the API's skew policy: one minor version either way
        return have[0] == want[0] and abs(have[1] - want[1]) <= 1
    if name == "helm":  # the chart works with 3.14 and newer
        return have >= (3, 14)
    return have[0] == want[0] and have >= want  # a node image wants the kind it was made with, or a newer one


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.lstrip("v").split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)


def _major(version: str | None) -> int:
    return int(version.split(".")[0]) if version else 0
