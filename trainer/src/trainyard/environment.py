"""What the container, or the laptop, tells a training process: the one place that reads environment variables."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from trainyard.errors import ConfigError

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnvironment:
    """Contract 3.4 of the design, as far as training reads it. Empty variables count as unset."""

    tracking_uri: str = DEFAULT_TRACKING_URI
    """Where runs are recorded."""
    tracking_wait_s: float = 300.0
    """Seconds to wait at the start for a tracking server that does not answer; 0 = one try."""
    job_uid: str | None = None
    """UID of the Kubernetes Job: the same for each pod of one Job."""
    job_name: str | None = None
    image: str | None = None
    """Reference of the container image."""
    git_commit: str | None = None
    """Where the code came from, for places without a repository, such as an image."""
    git_branch: str | None = None
    git_dirty: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "JobEnvironment":
        """Raises ConfigError for a value that cannot be used."""

        def get(name: str) -> str | None:
            return environ.get(name, "").strip() or None

        _refuse_several_processes(environ)
        return cls(
            tracking_uri=_tracking_uri(get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI),
            tracking_wait_s=_seconds("TRAINYARD_TRACKING_WAIT_S", get("TRAINYARD_TRACKING_WAIT_S") or "300"),
            job_uid=get("TRAINYARD_JOB_UID"),
            job_name=get("TRAINYARD_JOB_NAME"),
            image=get("TRAINYARD_IMAGE"),
            git_commit=get("TRAINYARD_GIT_COMMIT"),
            git_branch=get("TRAINYARD_GIT_BRANCH"),
            git_dirty=get("TRAINYARD_GIT_DIRTY"),
        )


def _tracking_uri(uri: str) -> str:
    parts = urlsplit(uri)
    if (parts.scheme in ("http", "https") and parts.hostname) or uri.startswith("sqlite:///"):
        return uri
    raise ConfigError(f"MLFLOW_TRACKING_URI={uri}: must be http://HOST:PORT, https://HOST or sqlite:///FILE")


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"{name}={value}: must be a number of seconds, 0 or more")
    return seconds


def _refuse_several_processes(environ: Mapping[str, str]) -> None:
    """Training is one process; a second one would train and record the same thing again."""
    for name, highest in (("WORLD_SIZE", 1), ("RANK", 0), ("JOB_COMPLETION_INDEX", 0)):
        value = environ.get(name, "").strip() or str(highest)
        if not value.isdecimal() or int(value) > highest:
            raise ConfigError(f"{name}={value}: training runs in one process on one node; use one pod per Job")
