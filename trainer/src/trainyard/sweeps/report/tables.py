"""All trials as a table."""

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best
from trainyard.sweeps.sweep import Sweep


def trials_csv(sweep: Sweep, trials: Sequence[TrialRecord]) -> bytes:
    """CSV with a line of names and one per trial; numbers as Python writes them, an empty field for what is not there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(sweep))
    writer.writerows(_rows(sweep, trials))
    return text.getvalue().encode()


def trials_json(sweep: Sweep, trials: Sequence[TrialRecord]) -> bytes:
    """The same in the form in which MLflow shows a table."""
    rows = [[_json_value(value) for value in row] for row in _rows(sweep, trials)]
    return json.dumps({"columns": _columns(sweep), "data": rows}, allow_nan=False).encode()


def _columns(sweep: Sweep) -> list[str]:
    return [
        "trial",
        "state",
        "best",
        *(f"metrics.{each.name}" for each in sweep.objectives),
        *(f"params.{name}" for name in sweep.parameters),
        "feasible",
        "attempts",
        "began",
        "seconds",
        "run_id",
        "reason",
    ]


def _rows(sweep: Sweep, trials: Sequence[TrialRecord]) -> list[list[Any]]:
    chosen = {trial.number for trial in best(sweep, trials)}
    return [
        [
            trial.number,
            trial.state,
            trial.number in chosen,
            *(trial.values if len(trial.values) == len(sweep.objectives) else [None] * len(sweep.objectives)),
            *(trial.parameters.get(name) for name in sweep.parameters),
            trial.feasible,
            trial.attempts,
            trial.began.isoformat(timespec="seconds") if trial.began else None,
            round((trial.ended - trial.began).total_seconds(), 1) if trial.began and trial.ended else None,
            trial.run_id,
            trial.reason,
        ]
        for trial in trials
    ]


def _json_value(value: Any) -> Any:
    """JSON, and the browser that reads it, know no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
