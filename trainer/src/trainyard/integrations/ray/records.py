"""What became of Tune's trials."""

from datetime import UTC, datetime, timedelta
from typing import Any

from trainyard.integrations.ray.space import flat
from trainyard.integrations.ray.trainable import ATTEMPTS, FINISHED
from trainyard.sweeps.records import State, TrialRecord
from trainyard.sweeps.sweep import Sweep


def trial_records(results: Any, metric: str, sweep: Sweep) -> list[TrialRecord]:
    """Of a tune.ResultGrid. `waiting` is a trial that Tune did not end."""
    return [_record(result, metric, sweep) for result in results]


def _record(result: Any, metric: str, sweep: Sweep) -> TrialRecord:
    last = result.metrics or {}
    ended = datetime.fromtimestamp(last["timestamp"], UTC) if "timestamp" in last else None
    parameters = flat(result.config or {})
    return TrialRecord(
        number=last.get("trial_id", ""),
        state=_state(result, last),
        parameters={name: parameters[name] for name in sweep.parameters if name in parameters},
        values=(float(last[metric]),) if metric in last else (),
        history=_history(result, metric),
        attempts=last.get(ATTEMPTS, 1),
        began=ended and ended - timedelta(seconds=last["time_total_s"]),
        ended=ended,
        reason=str(result.error or ""),
    )


def _state(result: Any, last: dict[str, Any]) -> State:
    if result.error is not None:
        return "failed"
    if last.get(FINISHED):
        return "finished"
    # Tune says so of what its scheduler ended; what it only interrupted is not done.
    return "pruned" if last.get("done") else "waiting"


def _history(result: Any, metric: str) -> dict[int, float]:
    table = result.metrics_dataframe
    if table is None or metric not in table:
        return {}
    return {int(step): float(value) for step, value in zip(table["training_iteration"], table[metric], strict=True)}
