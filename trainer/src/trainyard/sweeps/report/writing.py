"""The report, into the parent run."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best
from trainyard.sweeps.report.importances import importances, importances_png
from trainyard.sweeps.report.learning_curves import learning_curves_png
from trainyard.sweeps.report.optimization_history import optimization_history_png
from trainyard.sweeps.report.parallel_coordinates import parallel_coordinates_png
from trainyard.sweeps.report.pareto_front import pareto_front_png
from trainyard.sweeps.report.tables import trials_csv, trials_json
from trainyard.sweeps.report.winners import all_parameters, best_yaml, note, task_configs
from trainyard.sweeps.sweep import Sweep
from trainyard.tracking.params import flatten
from trainyard.tracking.run import Run

_TABLE: Final = "trials.json"
_SHOWN_AS_TABLE: Final = {"mlflow.loggedArtifacts": json.dumps([{"path": _TABLE, "type": "table"}])}


def write_report(sweep: Sweep, trials: Sequence[TrialRecord], run: Run, known_params: Mapping[str, str]) -> None:
    """Tables, pictures, the best trial.

    `known_params`: what the run has already. MLflow never changes one: a sweep that went on for more trials and found a
    better one says so in parameters of another name.
    """
    winners = best(sweep, trials)
    run.log_bytes(_TABLE, trials_json(sweep, trials))
    run.log_bytes("trials.csv", trials_csv(sweep, trials))
    for name, picture in _pictures(sweep, trials).items():
        if picture is not None:
            run.log_bytes(f"plots/{name}.png", picture)
    run.set_tags({**_SHOWN_AS_TABLE, "mlflow.note.content": note(sweep, trials, winners)})
    if not winners:
        return
    run.log_bytes("best.yaml", best_yaml(sweep, winners))
    for name, content in task_configs(sweep, winners).items():
        run.log_bytes(name, content)
    if len(winners) == 1:
        run.set_tags({"trainyard.best_trial": winners[0].number})
        run.log_params(_params(all_parameters(sweep, winners[0]), len(trials), known_params))


def _pictures(sweep: Sweep, trials: Sequence[TrialRecord]) -> Mapping[str, bytes | None]:
    shares = {each.name: importances(sweep, trials, index) for index, each in enumerate(sweep.objectives)}
    return {
        "optimization_history": optimization_history_png(sweep, trials),
        "parallel_coordinates": parallel_coordinates_png(sweep, trials, shares[sweep.objectives[0].name]),
        "importances": importances_png(shares),
        "learning_curves": learning_curves_png(sweep, trials),
        "pareto_front": pareto_front_png(sweep, trials),
    }


def _params(parameters: Mapping[str, object], trials: int, known: Mapping[str, str]) -> Mapping[str, str]:
    flat = {f"best/{name}": value for name, value in flatten(parameters).items()}
    if all(known.get(name, value) == value for name, value in flat.items()):
        return flat
    return {name.replace("best/", f"best of {trials}/", 1): value for name, value in flat.items()}
