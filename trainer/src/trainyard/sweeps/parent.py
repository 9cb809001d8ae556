"""The run above all trials of a sweep: the first worker records it, the others find it."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, TypedDict, TypeVar

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.interruption import Interruption
from trainyard.shipping.mlflow.api import FoundRun, MlflowApi
from trainyard.shipping.mlflow.backend import create_run
from trainyard.shipping.mlflow.connection import connected
from trainyard.shipping.mlflow.patience import wait_for
from trainyard.shipping.mlflow.rest import UID_TAG
from trainyard.spool.records import Start
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best
from trainyard.sweeps.report.configuration import fixed_settings, sweep_file
from trainyard.sweeps.report.marks import mark_best, trial_runs, with_run_ids
from trainyard.sweeps.sweep import Sweep
from trainyard.sweeps.tags import ID_TAG, KEY_TAG, PARENT, ROLE_TAG
from trainyard.tracking.session import Session, new_start, say_to_stderr
from trainyard.tracking.spooled_run import SpooledRun

_T = TypeVar("_T")
_RUNS: Final = uuid.UUID("2f5c3f0b-1a0e-5b7c-8f1e-6f3f6f0a4b1d")
_POLL_S: Final = 2.0
_SAY_EVERY_S: Final = 10.0
_STATES: Final = ("finished", "pruned", "failed", "running")
_OPEN: Final = ("waiting", "running")


class Parent(TypedDict):
    """The parent run, as MLflow knows it."""

    run_id: str
    tags: Mapping[str, str]


class ParentRun:
    """A context manager. The same sweep has the same run, however often its first worker is started.

    It ends FINISHED only if the block ends without an error after a report with at least one finished trial. SystemExit
    with 75, as Preempted is one, makes it SCHEDULED; anything else, also a block that ends without a report, FAILED.
    """

    def __init__(
        self,
        sweep: Sweep,
        *,
        sweep_id: str,
        environment: JobEnvironment,
        interruption: Interruption,
        say: Callable[[str], None],
    ) -> None:
        self.run_id: str | None = None
        """In MLflow; None where TRAINYARD_TRACKING does not name it."""
        self.run: SpooledRun
        """For tags and whatever else belongs to the sweep; there within the block."""
        self._sweep = sweep
        self._sweep_id = sweep_id
        self._environment = environment
        self._interruption = interruption
        self._say = say
        self._ended = -1
        self._complete = False

    def __enter__(self) -> "ParentRun":
        """Returns when the run is in MLflow. Raises ConfigError, TrackingError, SpoolError or Interrupted."""
        start = self._start()
        if "mlflow" in start.backends:
            start = wait_for(
                lambda: create_run(start),
                wait_s=self._environment.tracking_wait_s,
                interruption=self._interruption,
                say=self._say,
                purpose="begin",
            )
        self.run_id = start.mlflow_run_id
        session = Session(self._environment, start, say=self._say, pause=self._interruption.sleep)
        self.run = session.run
        self.run.log_params(fixed_settings(self._sweep))
        self.run.log_dict(sweep_file(self._sweep), "sweep.yaml")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        content = error is None or (isinstance(error, SystemExit) and error.code in (None, exit_codes.FINISHED))
        if content and not self._complete:
            self.run.end("FAILED")
        self.run.__exit__(kind, error, trace)

    def progress(self, trials: Sequence[TrialRecord]) -> None:
        """Record how far the sweep is, at step = number of trials that have ended; nothing if that is known already."""
        ended = sum(trial.state not in _OPEN for trial in trials)
        if ended <= self._ended:
            return
        self._ended = ended
        counts = {f"sweep/{state}": sum(trial.state == state for trial in trials) for state in _STATES}
        winners = best(self._sweep, trials) if len(self._sweep.objectives) == 1 else []
        self.run.log_metrics({**counts, **({"sweep/best": winners[0].values[0]} if winners else {})}, step=ended)

    def report(self, trials: Sequence[TrialRecord]) -> None:
        """Record what the sweep came to, and mark the best trial's run. Raises TrackingError if MLflow does not let it."""
        # Imports matplotlib and optuna: not for a worker that only waits.
        from trainyard.sweeps.report.writing import write_report

        nothing: tuple[Sequence[FoundRun], Mapping[str, str]] = ((), {})
        runs, known = self._ask("find the trials' runs", self._runs, nothing)
        trials = with_run_ids(trials, runs)
        self.progress(trials)
        write_report(self._sweep, trials, self.run, known)
        winners = best(self._sweep, trials)
        chosen = [trial.run_id for trial in winners if trial.run_id]
        unknown = ", ".join(trial.number for trial in winners if not trial.run_id)
        if self.run_id is not None and unknown:
            self._say(
                f"the best trial, {unknown}, has no run in MLflow that could be marked: start its program by `trainyard run -- ...`"
            )
        self._ask("mark the best trial's run", lambda mlflow: mark_best(mlflow, runs, chosen), None)
        self._complete = any(trial.state == "finished" for trial in trials)

    def _runs(self, mlflow: MlflowApi) -> tuple[Sequence[FoundRun], Mapping[str, str]]:
        """Those of the trials; and the parameters that the parent run has from an earlier report."""
        own = mlflow.search_runs({UID_TAG: self.run.uid})
        return trial_runs(mlflow, self._sweep_id), own[0].params if own else {}

    def _ask(self, purpose: str, call: Callable[[MlflowApi], _T], without: _T) -> _T:
        """What MLflow answers, waited for; `without` it where nothing is recorded there."""
        if self.run_id is None:
            return without

        def ask() -> _T:
            with connected(self._environment.tracking_uri) as mlflow:
                return call(mlflow)

        return wait_for(
            ask,
            wait_s=self._environment.ship_deadline_s,
            setting="TRAINYARD_SHIP_DEADLINE_S",
            interruption=self._interruption,
            say=self._say,
            purpose=purpose,
        )

    def _start(self) -> Start:
        start = new_start(
            self._environment,
            experiment=self._sweep.experiment,
            name=self._sweep.name,
            tags={KEY_TAG: self._sweep.key, ID_TAG: self._sweep_id, ROLE_TAG: PARENT},
        )
        uid = uuid.uuid5(_RUNS, self._sweep_id).hex
        return replace(start, uid=uid, continues=True, owner=True, mlflow_run_id=None)


def find_parent(
    sweep_key_or_id: str,
    environment: JobEnvironment,
    *,
    wait_s: float,
    interruption: Interruption,
    say: Callable[[str], None] = say_to_stderr,
) -> Parent | None:
    """The sweep's newest parent run, waited for up to `wait_s`; None if there is none by then, or no MLflow at all.

    Raises ConfigError, TrackingError or Interrupted.
    """
    if "mlflow" not in environment.tracking:
        return None
    began = said = time.monotonic()
    while True:
        found = wait_for(
            lambda: _parents(sweep_key_or_id, environment),
            wait_s=environment.tracking_wait_s,
            interruption=interruption,
            say=say,
            purpose="find the sweep's parent run",
        )
        waited = time.monotonic() - began
        if found or waited >= wait_s:
            return found
        if time.monotonic() - said >= _SAY_EVERY_S:
            said = time.monotonic()
            say(
                f"waiting for the first worker to make the parent run of sweep {sweep_key_or_id}: {waited:.0f} of {wait_s:.0f} s"
            )
        interruption.sleep(min(_POLL_S, wait_s - waited))


def _parents(sweep_key_or_id: str, environment: JobEnvironment) -> Parent | None:
    with connected(environment.tracking_uri) as mlflow:
        for tag in (KEY_TAG, ID_TAG):
            for run in mlflow.search_runs({tag: sweep_key_or_id, ROLE_TAG: PARENT}):
                return Parent(run_id=run.run_id, tags=run.tags)
    return None
