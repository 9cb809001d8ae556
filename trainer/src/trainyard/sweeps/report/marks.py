"""The runs of a sweep's trials, and the mark on the best one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from trainyard.shipping.mlflow.api import FoundRun, MlflowApi
from trainyard.shipping.mlflow.connection import connected
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.tags import ID_TAG, PARENT, ROLE_TAG, TRIAL_TAG

BEST_TAG: Final = "trainyard.best"
_MARKED: Final = "true"


def trial_runs(mlflow: MlflowApi, sweep_id: str) -> Sequence[FoundRun]:
    """The newest first. Raises Retry or Refused."""
    return [run for run in mlflow.search_runs({ID_TAG: sweep_id}) if run.tags.get(ROLE_TAG) != PARENT]


def trial_runs_at(uri: str, sweep_id: str) -> Sequence[FoundRun]:
    """The same, of the MLflow at an address."""
    with connected(uri) as mlflow:
        return trial_runs(mlflow, sweep_id)


def with_run_ids(trials: Sequence[TrialRecord], runs: Sequence[FoundRun]) -> list[TrialRecord]:
    """Trials with their runs, as far as there are any; the first where a program made several."""
    known: Mapping[str | None, str] = {run.tags.get(TRIAL_TAG): run.run_id for run in runs}
    return [trial if trial.run_id else replace(trial, run_id=known.get(trial.number)) for trial in trials]


def mark_best(mlflow: MlflowApi, runs: Sequence[FoundRun], best: Collection[str]) -> None:
    """Let those run ids have the mark, and no others. Raises Retry or Refused."""
    marked = {run.run_id for run in runs if BEST_TAG in run.tags}
    for run_id in set(best) - marked:
        mlflow.log_batch(run_id, (), {}, {BEST_TAG: _MARKED})
    for run_id in marked - set(best):
        mlflow.delete_tag(run_id, BEST_TAG)
