"""`trainyard sweep run` for a sweep of W&B: its agent is started until nothing is left to do, and the end is told as it was."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, Interrupted, TrackingError, TrainyardError
from trainyard.interruption import Interruption
from trainyard.shipping.backend import Retry
from trainyard.shipping.mlflow.patience import wait_for
from trainyard.sweeps.grid import wanted
from trainyard.sweeps.parent import ParentRun
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.marks import trial_runs_at, with_run_ids
from trainyard.sweeps.sweep import Sweep
from trainyard.sweeps.tags import TRIAL_TAG
from trainyard.sweeps.wandb import meeting
from trainyard.sweeps.wandb.agent import Agent
from trainyard.sweeps.wandb.attempts import failed_in_a_row, tried
from trainyard.sweeps.wandb.server import Place, Standing, SweepServer
from trainyard.sweeps.wandb.trial import run_trial
from trainyard.sweeps.wandb.watch import Watch
from trainyard.sweeps.wandb_file import wandb_config

__all__ = ["run_trial", "trials", "work"]

_T = TypeVar("_T")
_LOOK_S: Final = 3.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 20.0
_CRASHES: Final = 8
"""Of the agent, one after the other while the server answers, until it is no use."""
_SAY_EVERY_S: Final = 30.0
_RUNNING: Final = ("running", "waiting")
_ENDED_IN_MLFLOW: Final = ("FINISHED", "FAILED", "KILLED")


class EndedByPerson(TrainyardError):  # noqa: N818 - what somebody wanted
    """The sweep was stopped, cancelled or deleted at the server: to try again is no use."""

    exit_code = exit_codes.BAD_CONFIGURATION


def work(
    sweep: Sweep | None,
    environ: Mapping[str, str],
    environment: JobEnvironment,
    interruption: Interruption,
    *,
    join: str | None,
    limit: int | None,
    say: Callable[[str], None],
) -> int:
    """Search until nothing is left to do; returns the exit code. `join`: ENTITY/PROJECT/ID of a sweep, then `sweep` is None.

    Raises ConfigError for a key or an address that is wrong, EndedByPerson, and other TrainyardErrors for the rest.
    """
    try:
        server = _server(sweep, join, environ, environment)
        worker = _Worker(server, environ, environment, interruption, limit=limit, say=say)
        entity = worker.ask(server.entity, "begin", environment.tracking_wait_s, "TRAINYARD_TRACKING_WAIT_S")
        return worker.join(Place.read(join)) if sweep is None and join is not None else worker.begin(sweep, entity)
    except Interrupted:
        return exit_codes.PREEMPTED


def trials(sweep: Sweep, environ: Mapping[str, str], environment: JobEnvironment) -> list[TrialRecord]:
    """As the server has them. Raises ConfigError if there is no such sweep, and TrackingError if nobody answers."""
    server = _server(sweep, None, environ, environment)
    interruption = Interruption()
    place = meeting.known_place(sweep, environment, interruption)
    try:
        standing = None if place is None else server.look(place, sweep.objectives[0].name)
    except Retry as trouble:
        raise TrackingError(str(trouble)) from trouble
    if place is None or standing is None:
        raise ConfigError(
            f"{sweep.key}: no such sweep is at W&B at {server.url}; `trainyard sweep run` makes it"
            + ("" if place is None else f"; it was {place}")
        )
    found = standing.trials(sweep)
    if "mlflow" not in environment.tracking:
        return found
    runs = wait_for(
        lambda: trial_runs_at(environment.tracking_uri, place.id),
        wait_s=0,
        interruption=interruption,
        say=lambda _text: None,
        purpose="find the trials' runs",
    )
    return with_run_ids(found, runs)


@dataclass
class _Search:
    """One sweep at the server, and what this process does for it."""

    sweep: Sweep
    place: Place
    agent: Agent
    on_trials: Callable[[list[TrialRecord]], None]
    limit: int | None
    told: float = field(default=0.0)


class _Worker:
    """Of one pod."""

    def __init__(
        self,
        server: SweepServer,
        environ: Mapping[str, str],
        environment: JobEnvironment,
        interruption: Interruption,
        *,
        limit: int | None,
        say: Callable[[str], None],
    ) -> None:
        self._server = server
        self._environ = environ
        self._environment = environment
        self._interruption = interruption
        self._limit = limit
        self._say = say

    def begin(self, sweep: Sweep | None, entity: str) -> int:
        """With a sweep of our own."""
        assert sweep is not None
        if not self._is_first:
            place, parent_run_id = meeting.meet(sweep, self._environment, self._interruption)
            return self._follow(sweep, place, parent_run_id)
        if "wandb" not in self._environment.tracking:
            self._say(
                f"TRAINYARD_TRACKING={','.join(self._environment.tracking)} is without wandb: the program itself has to log to W&B, "
                "which else knows nothing of the trials"
            )
        place = meeting.known_place(sweep, self._environment, self._interruption) or self._create(sweep, entity)
        meeting.write_note(sweep, self._environment, place)
        return self._lead(sweep, place)

    def join(self, place: Place) -> int:
        """With one that somebody else has made."""
        standing = self.ask(lambda: self._server.look(place), "begin", self._environment.ship_deadline_s)
        if standing is None:
            raise ConfigError(f"--join={place}: W&B at {self._server.url} has no such sweep: see its address there")
        sweep = meeting.joined_sweep(place, standing.config, experiment=place.project)
        if not meeting.is_run_by_us(standing.config):
            self._say("the sweep's own command is run; how its trials end is as W&B tells")
        if self._is_first:
            return self._lead(sweep, place)
        parent = None
        if "mlflow" in self._environment.tracking:
            _, parent = meeting.meet(sweep, self._environment, self._interruption)
        return self._follow(sweep, place, parent)

    @property
    def _is_first(self) -> bool:
        return self._environment.job_index == 0

    def _create(self, sweep: Sweep, entity: str) -> Place:
        place, warnings = self.ask(
            lambda: self._server.create(entity, wandb_config(sweep)),
            "make the sweep",
            self._environment.ship_deadline_s,
        )
        for warning in warnings:
            self._say(f"W&B says of the sweep: {warning}")
        self._say(f"sweep {place} is made at {self._server.url}")
        return place

    def _follow(self, sweep: Sweep, place: Place, parent_run_id: str | None) -> int:
        with self._agent(sweep, place, parent_run_id) as agent:
            search = _Search(sweep, place, agent, lambda _trials: None, self._limit)
            self._search(search)
            attempts = agent.ended()
        self._say(f"nothing is left to start in sweep {place}; {tried(attempts)} trials were run here")
        return exit_codes.FINISHED

    def _lead(self, sweep: Sweep, place: Place) -> int:
        with ParentRun(
            sweep,
            sweep_id=place.id,
            environment=self._environment,
            interruption=self._interruption,
            say=self._say,
        ) as parent:
            parent.run.set_tags(meeting.parent_tags(place))
            try:
                with self._agent(sweep, place, parent.run_id) as agent:
                    search = _Search(sweep, place, agent, parent.progress, None)
                    found = self._to_the_end(search)
            except Interrupted:
                raise SystemExit(exit_codes.PREEMPTED) from None
            except EndedByPerson:
                self._report_what_there_is(search, parent)
                raise
            parent.report(found)
        finished = sum(trial.state == "finished" for trial in found)
        self._say(f"sweep {place} is complete: {_counted(found)}")
        if not finished:
            self._say("no trial has finished: exit code 1")
        return exit_codes.FINISHED if finished else exit_codes.FAILED

    def _agent(self, sweep: Sweep, place: Place, parent_run_id: str | None) -> Agent:
        return Agent(
            sweep,
            place,
            options=self._server.options,
            parent_run_id=parent_run_id,
            environ=self._environ,
            environment=self._environment,
            interruption=self._interruption,
        )

    def _to_the_end(self, search: _Search) -> list[TrialRecord]:
        """Search, see to what others leave behind, and wait for their ends."""
        while True:
            self._search(search)
            found = self._wait_for_ends(search)
            if not any(trial.state == "waiting" for trial in found):
                break
        self._wait_for_mlflow(search, found)
        return self._with_history(search)

    def _report_what_there_is(self, search: _Search, parent: ParentRun) -> None:
        """Of a sweep that somebody ended; nothing of one that is gone."""
        found = self._with_history(search)
        if any(trial.state == "finished" for trial in found):
            parent.report(found)
        parent.run.end("KILLED", reason="stopped")

    def _search(self, search: _Search) -> None:
        """Run the agent, again and again, until there is nothing left to start. Raises EndedByPerson."""
        pause, crashes = _FIRST_PAUSE_S, 0
        while True:
            standing = self._standing(search)
            if self._is_over(search, standing):
                return
            attempts = search.agent.ended()
            self._refuse_failures(search)
            if search.limit is not None and tried(attempts) >= search.limit:
                return
            if standing is not None and standing.state == "PAUSED":
                self._say_paused(search)
                self._interruption.sleep(_LOOK_S)
                continue
            code = self._run_agent(search)
            if code == exit_codes.FINISHED:
                self._refuse_failures(search)
                standing = self._standing(search)
                # It was told that there is nothing for it, or that the sweep is over: by whom, the server knows.
                if self._is_over(search, standing) or standing is None or _is_exhausted(search.sweep, standing):
                    return
                self._refuse_unseen_failures(search, standing)
            crashes = 0 if len(search.agent.ended()) > len(attempts) else crashes + 1
            if crashes >= _CRASHES:
                raise TrackingError(
                    f"`wandb agent` ended {crashes} times with an error before it had a trial, the last time with exit code {code}; "
                    "what it said is above"
                )
            pause = min(2 * pause, _LONGEST_PAUSE_S) if crashes else _FIRST_PAUSE_S
            if crashes:
                self._say(f"`wandb agent` ended with exit code {code}; it is started again in {pause:.0f} s")
            self._interruption.sleep(pause)

    def _run_agent(self, search: _Search) -> int:
        failures = len(failed_in_a_row(search.agent.ended()))
        count = None if search.limit is None else search.limit - tried(search.agent.ended())
        with Watch(partial(self._server.look, search.place), self._say) as watch:

            def is_enough() -> bool:
                if (standing := watch.news()) is not None:
                    search.on_trials(standing.trials(search.sweep))
                return watch.is_enough

            return search.agent.run(
                count=count, failures_left=max(1, search.sweep.max_failed - failures), is_enough=is_enough
            )

    def _refuse_failures(self, search: _Search) -> None:
        row = failed_in_a_row(search.agent.ended())
        if len(row) < search.sweep.max_failed:
            return
        last = row[-1]
        url = f"{self._server.url}/{search.place.entity}/{search.place.project}/runs/{last.run}"
        raise TrainyardError(
            f"{len(row)} trials in a row have failed here (max_failed): something is wrong with the program or with this node; the last "
            f"one, run {last.run} ({url}): {last.reason or f'exit code {last.code}'}"
        )

    def _refuse_unseen_failures(self, search: _Search, standing: Standing) -> None:
        """Of trials that the sweep's own command runs: there the agent alone counts, and it gives up with exit code 0."""
        failed = [run["name"] for run in standing.runs if run["state"] in ("failed", "crashed")]
        if standing.state == "RUNNING" and failed and not search.agent.ended():
            raise TrainyardError(
                f"`wandb agent` gave up after {search.sweep.max_failed} trials in a row that failed (max_failed); of sweep "
                f"{search.place} at {self._server.url} these have failed, the last one last: {', '.join(failed[-10:])}"
            )

    def _is_over(self, search: _Search, standing: Standing | None) -> bool:
        """Whether nothing will ever be left to start. Raises EndedByPerson."""
        where = f"sweep {search.place} at {self._server.url}"
        if standing is None:
            raise EndedByPerson(f"{where} is gone: somebody deleted it there")
        if standing.state == "CANCELED":
            raise EndedByPerson(f"{where} was cancelled by somebody there; {_counted(standing.trials(search.sweep))}")
        if standing.state != "FINISHED":
            return False
        expected = _expected(search.sweep)
        if expected is not None and len(standing.runs) < expected:
            raise EndedByPerson(
                f"{where} was stopped by somebody there after {len(standing.runs)} of {expected} trials; "
                f"{_counted(standing.trials(search.sweep))}"
            )
        return True

    def _wait_for_ends(self, search: _Search) -> list[TrialRecord]:
        """Until no other worker is at a trial, or one is left to be continued. Raises EndedByPerson."""
        while True:
            standing = self._standing(search)
            self._is_over(search, standing)
            assert standing is not None
            found = standing.trials(search.sweep)
            search.on_trials(found)
            waiting = any(trial.state == "waiting" for trial in found)
            if waiting or not any(trial.state in _RUNNING for trial in found):
                return found
            self._interruption.sleep(_LOOK_S)

    def _wait_for_mlflow(self, search: _Search, found: list[TrialRecord]) -> None:
        """Until the trials' runs have ended there, too: others deliver them."""
        if "mlflow" not in self._environment.tracking:
            return
        ended = {trial.number for trial in found}
        deadline = time.monotonic() + self._environment.tracking_wait_s
        while True:
            runs = wait_for(
                lambda: trial_runs_at(self._environment.tracking_uri, search.place.id),
                wait_s=self._environment.ship_deadline_s,
                setting="TRAINYARD_SHIP_DEADLINE_S",
                interruption=self._interruption,
                say=self._say,
                purpose="see the trials' runs end",
            )
            late = [run.name for run in runs if run.tags.get(TRIAL_TAG) in ended and run.status not in _ENDED_IN_MLFLOW]
            if not late:
                return
            if time.monotonic() >= deadline:
                self._say(f"these runs have ended at W&B, and not in MLflow: {', '.join(late)}")
                return
            self._interruption.sleep(_LOOK_S)

    def _standing(self, search: _Search, *, metric: str | None = None) -> Standing | None:
        look = partial(self._server.look, search.place, metric)
        return self.ask(look, "go on", self._environment.ship_deadline_s)

    def _with_history(self, search: _Search) -> list[TrialRecord]:
        """All trials, for a report."""
        standing = self._standing(search, metric=search.sweep.objectives[0].name)
        return [] if standing is None else standing.trials(search.sweep)

    def _say_paused(self, search: _Search) -> None:
        if time.monotonic() >= search.told + _SAY_EVERY_S:
            search.told = time.monotonic()
            self._say(f"sweep {search.place} is paused at W&B: waiting until somebody resumes it there")

    def ask(
        self, question: Callable[[], _T], purpose: str, wait_s: float, setting: str = "TRAINYARD_SHIP_DEADLINE_S"
    ) -> _T:
        """The answer, waited for. Raises ConfigError, TrackingError or Interrupted."""
        return wait_for(
            question, wait_s=wait_s, setting=setting, interruption=self._interruption, say=self._say, purpose=purpose
        )


def _server(
    sweep: Sweep | None, join: str | None, environ: Mapping[str, str], environment: JobEnvironment
) -> SweepServer:
    place = None if join is None else Place.read(join)
    if sweep is None:
        assert place is not None
        return SweepServer.of(environ, environment.state_dir, entity=place.entity, project=place.project)
    project = sweep.wandb_project or environ.get("WANDB_PROJECT") or sweep.experiment
    entity = sweep.wandb_entity or environ.get("WANDB_ENTITY") or None
    return SweepServer.of(environ, environment.state_dir, entity=entity, project=project)


def _expected(sweep: Sweep) -> int | None:
    """How many runs the server makes; None where only a person ends the search."""
    return None if sweep.trials is None and sweep.method != "grid" else wanted(sweep)


def _is_exhausted(sweep: Sweep, standing: Standing) -> bool:
    """Whether all runs were handed out, as far as that is known."""
    expected = _expected(sweep)
    return standing.state != "PAUSED" and (expected is None or len(standing.runs) >= expected)


def _counted(trials: list[TrialRecord]) -> str:
    """`5 finished, 1 failed`."""
    states = [trial.state for trial in trials]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no trial"
