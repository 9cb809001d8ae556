"""What a trial's program leaves undone that knows nothing of us: `trainyard run` does it at the end."""

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from trainyard.environment import JobEnvironment
from trainyard.errors import TrackingError, TrainyardError
from trainyard.interruption import Interruption
from trainyard.shipping.mlflow.api import FoundRun
from trainyard.shipping.mlflow.connection import connected
from trainyard.shipping.mlflow.patience import wait_for
from trainyard.shipping.mlflow.rest import UID_TAG
from trainyard.spool.records import Start
from trainyard.tracking.run import Run
from trainyard.tracking.trial_folder import MetricRows, TrialFolder


def complete(
    run: Run,
    start: Start,
    environment: JobEnvironment,
    *,
    wait_s: float,
    interruption: Interruption,
    say: Callable[[str], None],
) -> None:
    """Give the run the trial's parameters that it lacks, and the sweep what plain `mlflow` calls measured for it.

    At the end, since MLflow refuses a program that then writes `1` where it finds `1.0`.
    """
    try:
        if "mlflow" in start.backends:
            _complete(run, start, environment, wait_s=wait_s, interruption=interruption, say=say)
        else:
            run.log_params(environment.parameters)
    except (TrainyardError, OSError) as error:  # the run has yet to be ended
        say(f"what the program measured for its sweep is not known: {error}")


def _complete(
    run: Run,
    start: Start,
    environment: JobEnvironment,
    *,
    wait_s: float,
    interruption: Interruption,
    say: Callable[[str], None],
) -> None:
    with connected(start.settings["MLFLOW_TRACKING_URI"]) as mlflow:

        def ask() -> tuple[FoundRun, Mapping[str, int]]:
            for found in mlflow.search_runs({UID_TAG: start.uid}):
                if found.run_id == start.mlflow_run_id:
                    return found, mlflow.latest_steps(found.run_id)
            raise TrackingError(f"run {start.mlflow_run_id} is not in MLflow any more")

        found, steps = wait_for(ask, wait_s=wait_s, interruption=interruption, say=say, purpose="tell the sweep")
    run.log_params({name: value for name, value in environment.parameters.items() if name not in found.params})
    if environment.trial_dir is None:
        return
    folder = TrialFolder.find(environment.trial_dir)
    untold = (folder.wanted & found.metrics.keys()) - _told(folder.metrics, say)
    for name in sorted(untold, key=lambda each: steps[each]):
        folder.append(steps[name], {name: found.metrics[name]})


def _told(metrics: Path, say: Callable[[str], None]) -> set[str]:
    with closing(MetricRows(metrics, say=say)) as rows:
        return {name for _, values in rows.new() for name in values}
