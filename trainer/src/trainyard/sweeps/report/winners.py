"""The best trials in words, and as files that train with their parameters."""

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from trainyard.commands import train
from trainyard.config import configure, to_yaml
from trainyard.sweeps.command import task_of, trial_command
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.sweep import ParameterValue, Sweep
from trainyard.tasks import find_task


def best_yaml(sweep: Sweep, winners: Sequence[TrialRecord]) -> bytes:
    """Each best trial with its values, parameters, run and command."""
    found = [
        {
            "trial": trial.number,
            "values": _values(sweep, trial),
            "parameters": all_parameters(sweep, trial),
            "run_id": trial.run_id,
            "command": _command(sweep, trial),
        }
        for trial in winners
    ]
    text: str = yaml.safe_dump({"sweep": sweep.key, "best": found}, sort_keys=False, allow_unicode=True, width=1000)
    return text.encode()


def task_configs(
    sweep: Sweep, winners: Sequence[TrialRecord], environ: Mapping[str, str] = os.environ
) -> dict[str, bytes]:
    """By name, for each best trial a file for `trainyard train TASK --config`; none if the program is not that command."""
    files = {}
    for trial in winners:
        words = list(trial_command(sweep, all_parameters(sweep, trial)))
        at = next((i for i in range(1, len(words)) if words[i] == task_of(words) and words[i - 1] == "train"), None)
        if at is None:
            return {}
        parser = argparse.ArgumentParser(add_help=False)
        train.add_arguments(parser)
        options, _ = parser.parse_known_args(words[at:])
        task = find_task(options.task)
        config = configure(task.config_type, options.set, file=options.config, environ=environ, task=task.name)
        name = "best_config.yaml" if len(winners) == 1 else f"best_config_{trial.number}.yaml"
        files[name] = to_yaml(task.name, config).encode()
    return files


def all_parameters(sweep: Sweep, trial: TrialRecord) -> dict[str, ParameterValue]:
    """What was searched and what was constant."""
    return {**sweep.constants, **trial.parameters}


def note(sweep: Sweep, trials: Sequence[TrialRecord], winners: Sequence[TrialRecord]) -> str:
    """What MLflow shows above everything else of the parent run, as Markdown."""
    states = ("finished", "pruned", "failed", "stopped", "running", "waiting")
    counts = ", ".join(
        f"{count} {state}" for state in states if (count := sum(trial.state == state for trial in trials))
    )
    lines = [f"{len(trials)} trials: {counts or 'none began'}."]
    if not winners:
        return f"{lines[0]} None of them is usable."
    if len(winners) > 1:
        lines += ["", f"{len(winners)} trials that no other one beats:"]
    for trial in winners:
        link = f" (run {trial.run_id})" if trial.run_id else ""
        values = ", ".join(f"{name} = {value:.6g}" for name, value in _values(sweep, trial).items())
        lines += [
            "",
            f"**{'Best: ' if len(winners) == 1 else ''}trial {trial.number}**{link}: {values}",
            "",
            f"    {_command(sweep, trial)}",
        ]
    return "\n".join(lines)


def _values(sweep: Sweep, trial: TrialRecord) -> dict[str, float]:
    return {each.name: value for each, value in zip(sweep.objectives, trial.values, strict=True)}


def _command(sweep: Sweep, trial: TrialRecord) -> Any:
    return shlex.join(trial_command(sweep, all_parameters(sweep, trial)))
