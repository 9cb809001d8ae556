"""Which sweep at the server is this one: made by the first worker, found by the others, and by the first one when it comes back."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, TrackingError
from trainyard.interruption import Interruption
from trainyard.sweeps.file import read_sweep
from trainyard.sweeps.parent import Parent, find_parent
from trainyard.sweeps.sweep import Sweep
from trainyard.sweeps.tags import ID_TAG
from trainyard.sweeps.wandb.server import Place

PLACE_TAG: Final = "trainyard.wandb_sweep"
"""Of the parent run: ENTITY/PROJECT/ID."""
_NAME_LENGTH: Final = 40


def note_of(sweep: Sweep, environment: JobEnvironment) -> Path:
    """Where the place is kept by the worker that made the sweep, and by nobody else."""
    return environment.state_dir / "sweeps" / f"{sweep.key}.wandb"


def write_note(sweep: Sweep, environment: JobEnvironment, place: Place) -> None:
    """Keep it, also for where there is no MLflow."""
    note = note_of(sweep, environment)
    note.parent.mkdir(parents=True, exist_ok=True)
    new = note.with_suffix(".new")
    new.write_text(str(place))
    new.replace(note)


def known_place(sweep: Sweep, environment: JobEnvironment, interruption: Interruption) -> Place | None:
    """Of a sweep that was made before; None where there is none yet. Waits for MLflow, where it is in use."""
    parent = find_parent(sweep.key, environment, wait_s=0, interruption=interruption)
    if parent is not None and (place := place_of(parent)) is not None:
        return place
    note = note_of(sweep, environment)
    return Place.read(note.read_text()) if note.exists() else None


def place_of(parent: Parent) -> Place | None:
    """As the parent run says; None before it says so."""
    text = parent["tags"].get(PLACE_TAG)
    return Place.read(text) if text else None


def meet(sweep: Sweep, environment: JobEnvironment, interruption: Interruption) -> tuple[Place, str]:
    """Where the first worker has made the sweep, and its parent run; waited for. Raises ConfigError or TrackingError."""
    if "mlflow" not in environment.tracking:
        raise ConfigError(
            f"TRAINYARD_TRACKING={','.join(environment.tracking)}: several workers of a W&B sweep meet at its parent run, so mlflow "
            "must be in it; or make the sweep by `wandb sweep`, and start all workers with --join ENTITY/PROJECT/ID"
        )
    wait_s = environment.tracking_wait_s
    parent = find_parent(sweep.key, environment, wait_s=wait_s, interruption=interruption)
    for _ in range(max(1, int(wait_s))):
        if parent is None:
            break
        if (place := place_of(parent)) is not None:
            return place, parent["run_id"]
        interruption.sleep(1.0)
        parent = find_parent(sweep.key, environment, wait_s=0, interruption=interruption)
    raise TrackingError(
        f"sweep {sweep.key}: the first worker has made no parent run within {wait_s:.0f} s (TRAINYARD_TRACKING_WAIT_S): its log says why"
    )


def joined_sweep(place: Place, config: str, *, experiment: str) -> Sweep:
    """The search that is at the server already, as a sweep of ours. Raises ConfigError for what we cannot run."""
    found: dict[str, Any] = dict(yaml.safe_load(config))
    if (command := found.get("command")) and _is_ours(command):
        del found["command"]
    cap = found.pop("run_cap", None)
    known = {
        **{name: value for name, value in found.items() if name not in ("controller", "scheduler")},
        "name": _slug(str(found.get("name") or place.id)),
        "backend": "wandb",
        "trials": cap or 1,
        "experiment": experiment,
        "entity": place.entity,
        "project": place.project,
    }
    with TemporaryDirectory() as folder:
        file = Path(folder, f"{place.id}.yaml")
        file.write_text(yaml.safe_dump(known))
        try:
            sweep = read_sweep(file)
        except ConfigError as error:
            problems = (problem.replace(f"{file}:", f"sweep {place}, line ") for problem in error.problems)
            raise ConfigError(*problems) from error
    return replace(sweep, trials=cap)


def is_run_by_us(config: str) -> bool:
    """Whether the agent starts `trainyard sweep trial`, rather than a program that somebody else chose."""
    return _is_ours(yaml.safe_load(config).get("command") or [])


def parent_tags(place: Place) -> Mapping[str, str]:
    """What the parent run says of the sweep at the server."""
    return {PLACE_TAG: str(place), ID_TAG: place.id}


def _is_ours(command: list[Any]) -> bool:
    return [Path(str(word)).name for word in command[:1]] + command[1:3] == ["trainyard", "sweep", "trial"]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_NAME_LENGTH].strip("-") or "sweep"
