"""Where things are, and the few names a person may choose by environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_cluster.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = "trainyard"
RELEASE = "trainyard"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The names and folders of one local cluster."""

    cluster: str
    """Name of the kind cluster (TRAINYARD_CLUSTER)."""
    port: int
    """TCP port on 127.0.0.1 where MLflow is to be reached (TRAINYARD_PORT)."""
    cache: Path
    """What is slow to make and safe to delete: programs, the node image, logs of builds."""
    state: Path
    """What has to be undone by scripts/down: process ids, saved kernel settings, locks."""

    @property
    def home(self) -> Path:
        """The folder of this cluster's state."""
        return self.state / "clusters" / self.cluster

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of our own: the user's is never touched."""
        return self.home / "kubeconfig"

    @property
    def logs(self) -> Path:
        """Where builds and long commands write."""
        return self.cache / "logs"

    @property
    def context(self) -> str:
        """The kubectl context of the cluster."""
        return f"kind-{self.cluster}"


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables. Raises UserError for a name or port that cannot be."""
    cluster = environment.get("TRAINYARD_CLUSTER", "trainyard")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", cluster):
        raise UserError(
            f"TRAINYARD_CLUSTER is '{cluster}': use at most 40 lower-case letters, digits and dashes, as in 'trainyard'."
        )
    port = environment.get("TRAINYARD_PORT", "5000")
    if not port.isdecimal() or not 1024 <= int(port) <= 65535:
        raise UserError(f"TRAINYARD_PORT is '{port}': use a port number from 1024 to 65535, as in 5000.")
    home = Path(environment.get("HOME") or Path.home())
    return Settings(
        cluster=cluster,
        port=int(port),
        cache=Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "trainyard",
        state=Path(environment.get("XDG_STATE_HOME") or home / ".local" / "state") / "trainyard",
    )


def read_versions() -> dict[str, str]:
    """The pinned versions of images/kind-node/versions.env."""
    lines = (REPOSITORY / "images/kind-node/versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
