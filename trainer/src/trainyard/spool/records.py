"""What a spool may hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EndStatus = Literal["FINISHED", "FAILED", "KILLED", "SCHEDULED"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A run begins. Not in a segment but in `start.json`, which is there as long as the spool is."""

    uid: str
    """32 hex digits, chosen by us: the run is found by it in every backend. Each pod of one Job has the same."""
    name: str
    experiment: str
    tags: Mapping[str, str]
    time_ms: int
    """Milliseconds since 1970, as all times here."""
    backends: tuple[str, ...]
    """Where the record goes: of `mlflow`, `wandb`, `json`."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Addresses and the like, as the training process saw them. Never a secret."""
    owner: bool = True
    """False for a script inside `trainyard run`, which ends the run itself."""
    mlflow_run_id: str | None = None
    """Of a run that exists already."""
    attempt: int = 1
    """Which of the processes that recorded this run one after the other, as far as this state directory knows."""
    continues: bool = False
    """Whether a process before this one may have recorded the run: then what its backends have is not sent again."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Values measured at one step."""

    step: int
    time_ms: int
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Params:
    """Settings of the run, flat and as text."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tags:
    """Labels of the run; a later value replaces an earlier one."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that belongs to the run."""

    name: str
    """Path inside the run, such as `plots/loss.png`."""
    file: str
    """The copy, relative to the spool's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model in MLflow's format."""

    name: str
    folder: str
    """The copy, relative to the spool's folder; it holds a file `MLmodel`."""
    step: int
    register: str | None = None
    """Name in the model registry; None = not registered."""
    alias: str | None = None
    """What the new version is called there, such as `challenger`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How the run ended; the last record of every spool whose writer did not vanish."""

    status: EndStatus
    reason: str
    """`finished`, `failed`, `interrupted`, `preempted` or `lost`, of a sweep's trial `pruned` or `stopped` too: the tag
    `trainyard.end_reason`."""
    time_ms: int


Record = Metrics | Params | Tags | Artifact | Model | End
