"""Our records in W&B's terms."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from trainyard.spool.records import End, EndStatus, Metrics, Start

STEP: Final = "trainyard/step"
_EXIT_CODES: Final[Mapping[EndStatus, int]] = {"FINISHED": 0, "FAILED": 1, "KILLED": 130, "SCHEDULED": 75}
_METRICS_OF_WANDB: Final = frozenset({STEP, "_step", "_timestamp", "_runtime", "_wandb"})
_SETTINGS_OF_WANDB: Final = frozenset({"trainyard", "_wandb"})
_FILES_OF_WANDB: Final = frozenset(
    {"config.yaml", "diff.patch", "output.log", "requirements.txt", "wandb-metadata.json", "wandb-summary.json"}
)
_OTHER_NAME: Final = "trainyard/"

Warn = Callable[[str], None]


def exit_code(end: End) -> int:
    """W&B knows a run's end by it: 0 = finished; others = failed, killed where W&B itself asked for the end, or preempted where that was announced."""
    if end.reason == "pruned":
        return 0  # it did all that it was to do, and its search uses what it measured
    return _EXIT_CODES[end.status]


def row(record: Metrics, warn: Warn) -> dict[str, Any]:
    """One row of the history; NaN and infinity are values of W&B too."""
    values = dict(record.values)
    for key in values.keys() & _METRICS_OF_WANDB:
        warn(f"metric {key!r} at step {record.step} is left out: W&B keeps this name for itself")
        del values[key]
    return {**values, STEP: record.step, "_timestamp": record.time_ms / 1000}


def params(values: Mapping[str, str], warn: Warn) -> dict[str, str]:
    """Those that W&B can have."""
    for key in values.keys() & _SETTINGS_OF_WANDB:
        warn(f"parameter {key!r} is left out: W&B has something else under this name")
    return {key: text for key, text in values.items() if key not in _SETTINGS_OF_WANDB}


def config(start: Start, values: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    """Params as they are; tags, which W&B has no place for (its own are words), below `trainyard`."""
    ours = {"experiment": start.experiment, "uid": start.uid, "tags": dict(tags)}
    return {**{key: _value(text) for key, text in values.items()}, "trainyard": ours}


def file_name(name: str, warn: Warn) -> str:
    """The name of an artifact among the files of a run."""
    if name not in _FILES_OF_WANDB:
        return name
    warn(f"artifact {name!r} is stored as {_OTHER_NAME + name!r}: W&B has a file of its own under this name")
    return _OTHER_NAME + name


def model_name(name: str) -> str:
    """The name of a model among artifacts."""
    return re.sub(r"[^\w.-]", "-", name)[:128]


def _value(text: str) -> str | int | float | bool:
    """A number where that loses nothing: W&B compares runs by numbers only."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if repr(value) == text and text not in ("nan", "inf", "-inf"):
            return value
    return text
