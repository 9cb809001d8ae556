"""What the container, or the laptop, tells a training process: the one place that reads environment variables."""

import json
import math
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

from trainyard.errors import ConfigError
from trainyard.shipping.backends import BACKENDS
from trainyard.sweeps.sweep import ParameterValue

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
_PASSED_ON = ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_MODE")
"""What backends read, beside secrets: kept in the spool, so that any shipper delivers to the same place."""
_OF_WANDB_TRIAL = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")
"""What `wandb agent` tells the program of a trial: which sweep it belongs to, and which run it is to be."""
_FROM_FILE = ("MLFLOW_", "WANDB_", "TRAINYARD_", "AWS_")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnvironment:
    """Contract 3.4 of the design, as far as training reads it. Empty variables count as unset."""

    tracking_uri: str = DEFAULT_TRACKING_URI
    """Where MLflow is; without user and password."""
    tracking: tuple[str, ...] = ("mlflow",)
    """Which backends the record goes to."""
    state_dir: Path = Path(".trainyard")
    """Spools, and what the JSON backend writes."""
    shipper: Literal["thread", "sidecar"] = "thread"
    """Who delivers: a thread of this process, or another container of the pod."""
    ship_deadline_s: float = 1800.0
    """Seconds after the end of training that delivery may take; and that training waits for disk space."""
    spool_bytes: int = 512 * 2**20
    """Disk that records which are not delivered yet may use."""
    backend_settings: Mapping[str, str] = field(default_factory=dict)
    """What the backends need to know, secrets apart."""
    tracking_wait_s: float = 300.0
    """Seconds that `trainyard run` waits for a tracking server that does not answer; 0 = one try."""
    grace_s: float = 25.0
    """Seconds after SIGTERM by which a training process must be gone."""
    checkpoint_uri: str | None = None
    """Directory or s3://bucket/prefix below which each run has a place for its checkpoints; None: in `state_dir`."""
    system_metrics_s: float = 0.0
    """Seconds between two samples of how busy each rank is; 0 = none."""
    rank: int = 0
    """Of several processes that train together, the one with rank 0 records."""
    local_rank: int = 0
    """The same, among the processes of this pod."""
    world_size: int = 1
    """How many train together."""
    job_index: int = 0
    """Which pod of an Indexed Job this is."""
    run_uid: str | None = None
    """Of the run that this process belongs to, inside `trainyard run`."""
    mlflow_run_id: str | None = None
    """The same run in MLflow."""
    sweep_id: str | None = None
    """Of the sweep that this process runs a trial of; set together with `trial`."""
    trial: str | None = None
    """Which one: the same for each attempt at it, in whichever pod."""
    parent_run_id: str | None = None
    """The sweep's own run in MLflow."""
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    """Of the trial, those included that are the same in each."""
    trial_dir: Path | None = None
    """Where the trial and its sweep's worker, which started it, talk to each other; see `tracking.trial_folder`."""
    job_uid: str | None = None
    """UID of the Kubernetes Job: the same for each pod of one Job."""
    job_name: str | None = None
    pod_name: str | None = None
    node_name: str | None = None
    image: str | None = None
    """Reference of the container image."""
    image_digest: str | None = None
    """Of the image's content, where whoever makes the pod knows it."""
    git_commit: str | None = None
    """Where the code came from, for places without a repository, such as an image."""
    git_branch: str | None = None
    git_dirty: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "JobEnvironment":
        """Raises ConfigError for every value that cannot be used."""
        problems: list[str] = []

        def get(name: str) -> str | None:
            return environ.get(name, "").strip() or None

        def parse(name: str, default: str, meaning: Callable[[str, str], _T]) -> _T | None:
            try:
                return meaning(name, get(name) or default)
            except ConfigError as error:
                problems.extend(error.problems)
                return None

        uri = parse("MLFLOW_TRACKING_URI", DEFAULT_TRACKING_URI, _tracking_uri)
        tracking = parse("TRAINYARD_TRACKING", "mlflow", backends)
        shipper = parse("TRAINYARD_SHIPPER", "thread", _shipper)
        deadline_s = parse("TRAINYARD_SHIP_DEADLINE_S", "1800", seconds)
        spool_bytes = parse("TRAINYARD_SPOOL_BYTES", str(512 * 2**20), _bytes)
        wait_s = parse("TRAINYARD_TRACKING_WAIT_S", "300", seconds)
        grace_s = parse("TRAINYARD_GRACE_S", "25", seconds)
        system_metrics_s = parse("TRAINYARD_SYSTEM_METRICS_S", "0", seconds)
        checkpoint_uri = parse("TRAINYARD_CHECKPOINT_URI", "", _checkpoint_uri)
        rank = parse("RANK", "0", _rank)
        local_rank = parse("LOCAL_RANK", "0", _rank)
        job_index = parse("JOB_COMPLETION_INDEX", "0", _rank)
        world_size = parse("WORLD_SIZE", "1", _world_size)
        parameters = parse("TRAINYARD_PARAMETERS", "{}", _parameters)
        sweep_id, trial = _trial(environ)
        if (sweep_id is None) != (trial is None):
            problems.append(
                f"TRAINYARD_SWEEP_ID={sweep_id or ''} and TRAINYARD_TRIAL={trial or ''}: one says nothing without the other; "
                "set both, as `trainyard sweep run` does, or none"
            )
        if problems:
            raise ConfigError(*problems)
        assert uri and tracking and shipper and spool_bytes and world_size
        assert deadline_s is not None and wait_s is not None and grace_s is not None and system_metrics_s is not None
        assert rank is not None and local_rank is not None and job_index is not None and parameters is not None
        settings = {name: value for name in _PASSED_ON if (value := get(name))}
        if json_dir := get("TRAINYARD_JSON_DIR"):
            settings["TRAINYARD_JSON_DIR"] = str(Path(json_dir).absolute())
        if all(map(get, _OF_WANDB_TRIAL)):
            settings |= {name: environ[name].strip() for name in _OF_WANDB_TRIAL}
            settings["TRAINYARD_PARAMETERS"] = json.dumps(parameters)  # W&B shows a sweep by its runs' parameters
        trial_dir = get("TRAINYARD_TRIAL_DIR")
        return cls(
            tracking_uri=uri,
            tracking=tracking,
            state_dir=Path(get("TRAINYARD_STATE_DIR") or ".trainyard").absolute(),
            shipper=shipper,
            ship_deadline_s=deadline_s,
            spool_bytes=spool_bytes,
            backend_settings={"MLFLOW_TRACKING_URI": uri, **settings},
            tracking_wait_s=wait_s,
            grace_s=grace_s,
            checkpoint_uri=checkpoint_uri,
            system_metrics_s=system_metrics_s,
            rank=rank,
            local_rank=local_rank,
            world_size=world_size,
            job_index=job_index,
            run_uid=get("TRAINYARD_RUN_UID"),
            mlflow_run_id=get("MLFLOW_RUN_ID"),
            sweep_id=sweep_id,
            trial=trial,
            parent_run_id=get("TRAINYARD_PARENT_RUN_ID"),
            parameters=parameters,
            trial_dir=None if trial_dir is None else Path(trial_dir),
            job_uid=get("TRAINYARD_JOB_UID"),
            job_name=get("TRAINYARD_JOB_NAME"),
            pod_name=get("TRAINYARD_POD_NAME"),
            node_name=get("TRAINYARD_NODE_NAME"),
            image=get("TRAINYARD_IMAGE"),
            image_digest=get("TRAINYARD_IMAGE_DIGEST"),
            git_commit=get("TRAINYARD_GIT_COMMIT"),
            git_branch=get("TRAINYARD_GIT_BRANCH"),
            git_dirty=get("TRAINYARD_GIT_DIRTY"),
        )

    @property
    def spools(self) -> Path:
        """Where the spools are."""
        return self.state_dir / "spool"

    def checkpoints(self, run_uid: str) -> str:
        """Where the checkpoints of a run are: a directory or an s3:// address of its own."""
        return f"{self.checkpoint_uri or self.state_dir / 'checkpoints'}/{run_uid}"


def read_env_file(environ: MutableMapping[str, str], folder: Path) -> None:
    """Take what `.env` in `folder` says about tracking into `environ`, where it does not say otherwise itself."""
    path = folder / ".env"
    if not path.is_file():
        return
    from dotenv import dotenv_values

    for name, value in dotenv_values(path).items():
        if value is not None and name.startswith(_FROM_FILE):
            environ.setdefault(name, value)


def backends(name: str, value: str) -> tuple[str, ...]:
    """`json,mlflow` as a tuple without repetitions. Raises ConfigError for an unknown one."""
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    unknown = [part for part in names if part not in BACKENDS]
    if unknown or not names:
        raise ConfigError(f"{name}={value}: must be one or more of {', '.join(BACKENDS)}, separated by commas")
    return names


def seconds(name: str, value: str) -> float:
    """A length of time. Raises ConfigError."""
    try:
        length = float(value)
    except ValueError:
        length = math.nan
    if not 0 <= length < math.inf:
        raise ConfigError(f"{name}={value}: must be a number of seconds, 0 or more")
    return length


def without_credentials(uri: str) -> str:
    """`uri` as it may be stored and printed."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else uri


def refuse_strangers(environ: Mapping[str, str]) -> None:
    """Pods of one Job that do not know of each other would all train and record the same. Raises ConfigError."""
    index = environ.get("JOB_COMPLETION_INDEX", "").strip() or "0"
    if index != "0" and not environ.get("WORLD_SIZE", "").strip() and None in _trial(environ):
        raise ConfigError(
            f"JOB_COMPLETION_INDEX={index} without WORLD_SIZE: start the pods of a Job by `trainyard launch --nnodes N -- "
            "trainyard train TASK`, or use a Job with one pod"
        )


def _trial(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The sweep and the trial in it that this process is; a bare `wandb agent` says so in W&B's own words."""
    ours = ("TRAINYARD_SWEEP_ID", "TRAINYARD_TRIAL")
    sweep_id, trial = (environ.get(name, "").strip() or None for name in ours)
    if sweep_id is None and trial is None:
        sweep_id, trial = (environ.get(name, "").strip() or None for name in _OF_WANDB_TRIAL)
        return (sweep_id, trial) if sweep_id and trial else (None, None)
    return sweep_id, trial


def _parameters(name: str, value: str) -> Mapping[str, ParameterValue]:
    try:
        parameters = json.loads(value)
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise ConfigError(f'{name}={value}: must be a JSON object, such as {{"lr": 0.1}}')
    return parameters


def _tracking_uri(name: str, uri: str) -> str:
    if uri.startswith("sqlite:///"):
        # Absolute, since whoever delivers the spool may work in another directory.
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    try:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return without_credentials(uri)
    except ValueError:  # a port that is no number, half an IPv6 address
        pass
    shown = re.sub(r"(?<=://).*@", "***@", uri)
    raise ConfigError(f"{name}={shown}: must be http://HOST:PORT, https://HOST or sqlite:///FILE")


def _shipper(name: str, value: str) -> Literal["thread", "sidecar"]:
    if value == "thread":
        return "thread"
    if value == "sidecar":
        return "sidecar"
    raise ConfigError(
        f"{name}={value}: must be thread, or sidecar where another container runs `trainyard spool ship --follow`"
    )


def _bytes(name: str, value: str) -> int:
    if value.isdecimal() and int(value) >= 4 * 2**20:
        return int(value)
    raise ConfigError(f"{name}={value}: must be a number of bytes, {4 * 2**20} or more")


def _checkpoint_uri(name: str, value: str) -> str | None:
    if not value:
        return None
    scheme, separator, rest = value.partition("://")
    if not separator:
        return str(Path(value).absolute())
    if scheme == "s3" and re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", rest):
        return value.rstrip("/")
    raise ConfigError(f"{name}={value}: must be a directory or s3://BUCKET/PREFIX")


def _rank(name: str, value: str) -> int:
    if value.isdecimal():
        return int(value)
    raise ConfigError(f"{name}={value}: must be 0 or more")


def _world_size(name: str, value: str) -> int:
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise ConfigError(f"{name}={value}: must be 1 or more")
