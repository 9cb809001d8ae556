"""A sweep in words: how far it is, and what is best."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from trainyard.sweeps.command import as_text, trial_command
from trainyard.sweeps.grid import wanted
from trainyard.sweeps.records import State, TrialRecord
from trainyard.sweeps.report.best import best
from trainyard.sweeps.report.winners import all_parameters
from trainyard.sweeps.sweep import Sweep

_COUNTED: Final[tuple[State, ...]] = ("finished", "pruned")
_STATES: Final[tuple[State, ...]] = ("finished", "pruned", "running", "waiting", "failed", "stopped")


def status_text(sweep: Sweep, trials: Sequence[TrialRecord]) -> str:
    """A table of the trials, what is missing, and the best so far."""
    lines = [f"{sweep.key}: {sweep.backend}, {sweep.method}, {wanted(sweep)} trials"]
    if trials:
        header = ["TRIAL", "STATE", *(each.name for each in sweep.objectives), "ATTEMPTS", "TIME", "RUN", ""]
        lines += _table([header, *(_row(sweep, trial) for trial in trials)])
    winners = best(sweep, trials)
    lines += [_progress(sweep, trials), *(f"best: {_headline(sweep, trial)}" for trial in winners)]
    return "\n".join(lines)


def best_text(sweep: Sweep, winners: Sequence[TrialRecord]) -> str:
    """For each of the best: its values, its parameters, and what trains with them."""
    return "\n\n".join(_described(sweep, trial) for trial in winners)


def _progress(sweep: Sweep, trials: Sequence[TrialRecord]) -> str:
    counts = {state: sum(trial.state == state for trial in trials) for state in _STATES}
    done, goal = sum(counts[state] for state in _COUNTED), wanted(sweep)
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none has begun"
    missing = max(0, goal - done)
    new = max(0, missing - counts["running"] - counts["waiting"])
    rest = f"{missing} missing, {new} of them to be begun" if missing else "none is missing"
    return f"{done} of {goal} trials are done ({told}); {rest}"


def _row(sweep: Sweep, trial: TrialRecord) -> list[str]:
    values = [f"{value:.6g}" for value in trial.values] or ["-"] * len(sweep.objectives)
    note = trial.reason if trial.feasible else f"breaks a constraint {trial.reason}".rstrip()
    return [trial.number, trial.state, *values, str(trial.attempts), _duration(trial), trial.run_id or "-", note]


def _duration(trial: TrialRecord) -> str:
    if trial.began is None:
        return "-"
    seconds = int(((trial.ended or datetime.now(trial.began.tzinfo or UTC)) - trial.began).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _headline(sweep: Sweep, trial: TrialRecord) -> str:
    pairs = zip(sweep.objectives, trial.values, strict=True)
    values = ", ".join(f"{objective.name} {value:.6g}" for objective, value in pairs)
    return f"trial {trial.number}, {values}" + (f", run {trial.run_id}" if trial.run_id else "")


def _described(sweep: Sweep, trial: TrialRecord) -> str:
    parameters = all_parameters(sweep, trial)
    width = max(map(len, parameters))
    return "\n".join(
        [
            _headline(sweep, trial),
            *(f"  {name:{width}}  {as_text(value)}" for name, value in parameters.items()),
            "train with them:",
            f"  {shlex.join(trial_command(sweep, parameters))}",
        ]
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
