"""A worker of an Optuna sweep: takes trials from the study and runs them, until there are none left."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from trainyard import exit_codes
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError, Interrupted, TrainyardError
from trainyard.interruption import Interruption
from trainyard.sweeps.optuna.address import address, shown
from trainyard.sweeps.optuna.contact import Away
from trainyard.sweeps.optuna.database import Database
from trainyard.sweeps.optuna.heartbeat import Heartbeat
from trainyard.sweeps.optuna.study import Nothing, SweepStudy, Turn
from trainyard.sweeps.parent import ParentRun
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.sweep import Sweep
from trainyard.sweeps.trial import Outcome, TrialProcess

_POLL_S: Final = 2.0
_PROGRESS_S: Final = 10.0
_SAY_EVERY_S: Final = 30.0
_PUT_BACK_S: Final = 5.0
"""After its trial has ended, a worker that was told to end has little time left."""


def work(
    sweep: Sweep,
    environ: Mapping[str, str],
    environment: JobEnvironment,
    interruption: Interruption,
    *,
    limit: int | None,
    say: Callable[[str], None],
) -> int:
    """Run trials until none is left; the first worker stays until all have ended, and reports. Returns the exit code.

    `limit`: trials of this worker, unless it is the first. Raises SystemExit with 75 after a signal, ConfigError, or
    TrainyardError if too many trials failed in a row.
    """
    url = address(environ, environment)
    database = Database(url, heartbeat_s=sweep.heartbeat_s, environment=environment, interruption=interruption, say=say)
    worker = _Worker(sweep, SweepStudy(sweep, database), database, environ, environment, interruption, say)
    try:
        with _preemptible(say):
            database.open(make=True)
            return worker.first() if environment.job_index == 0 else worker.another(limit)
    finally:
        database.close()


def trials(sweep: Sweep, environ: Mapping[str, str], environment: JobEnvironment) -> list[TrialRecord]:
    """What became of each trial so far. Raises ConfigError if the study does not exist."""
    url = address(environ, environment)
    database = Database(
        url, heartbeat_s=sweep.heartbeat_s, environment=environment, interruption=Interruption(), say=lambda _line: None
    )
    try:
        study = SweepStudy(sweep, database)
        if not database.open(make=False) or not study.load():
            raise ConfigError(
                f"sweep {sweep.name}: there is no study {sweep.key} in {shown(url)}; it was not started, or its file has "
                "changed since, which makes it another sweep"
            )
        return database.call(study.records)
    finally:
        database.close()


@contextlib.contextmanager
def _preemptible(say: Callable[[str], None]) -> Iterator[None]:
    """A signal ends the worker as one that is to be started again."""
    try:
        yield
    except Interrupted as interrupted:
        say(f"{interrupted}; exit code {exit_codes.PREEMPTED}: the same again goes on")
        raise SystemExit(exit_codes.PREEMPTED) from interrupted


class _Worker:
    def __init__(
        self,
        sweep: Sweep,
        study: SweepStudy,
        database: Database,
        environ: Mapping[str, str],
        environment: JobEnvironment,
        interruption: Interruption,
        say: Callable[[str], None],
    ) -> None:
        self._sweep = sweep
        self._study = study
        self._database = database
        self._environ = environ
        self._environment = environment
        self._interruption = interruption
        self._say = say
        self._failed = 0
        self._parent: ParentRun | None = None
        self._progress_at = 0.0

    def first(self) -> int:
        """Hold the parent run, and stay to the end."""
        self._study.open()
        with (
            ParentRun(
                self._sweep,
                sweep_id=self._sweep.key,
                environment=self._environment,
                interruption=self._interruption,
                say=self._say,
            ) as self._parent,
            _preemptible(self._say),
        ):
            self._study.announce(self._parent.run_id)
            # What others are at may come back.
            while (nothing := self._work(self._parent.run_id, None)) and nothing.running:
                self._progress()
                self._interruption.sleep(min(_POLL_S, self._sweep.heartbeat_s))
            records = self._database.call(self._study.records)
            self._parent.report(records)
        return self._conclude(records)

    def another(self, limit: int | None) -> int:
        """Work as long as there is something to start."""
        self._study.open()
        parent_run_id = self._wait_for_parent()
        nothing = self._work(parent_run_id, limit)
        why = "this worker has run as many trials as it was to" if nothing is None else "no trial is left to start"
        self._say(f"sweep {self._sweep.key}: {why}")
        return exit_codes.FINISHED

    def _conclude(self, records: list[TrialRecord]) -> int:
        counts = Counter(each.state for each in records)
        told = ", ".join(f"{counts[state]} {state}" for state in ("finished", "pruned", "failed"))
        self._say(f"sweep {self._sweep.key} is complete: {told}")
        if counts["finished"]:
            return exit_codes.FINISHED
        failed = [each for each in records if each.state == "failed"]
        reason = f"; the last one that failed, trial {failed[-1].number}: {failed[-1].reason}" if failed else ""
        self._say(f"no trial of sweep {self._sweep.key} finished{reason}")
        return exit_codes.FAILED

    def _wait_for_parent(self) -> str | None:
        """Of a study that is complete already, there is one too."""
        began = said = time.monotonic()
        while (parent := self._study.parent()) is None:
            if time.monotonic() - said >= _SAY_EVERY_S:
                said = time.monotonic()
                self._say(
                    f"waiting for the first worker (JOB_COMPLETION_INDEX=0) to make the parent run: {said - began:.0f} s so far"
                )
            self._interruption.sleep(min(_POLL_S, self._sweep.heartbeat_s))
        return parent[0]

    def _work(self, parent_run_id: str | None, limit: int | None) -> Nothing | None:
        """Run trials until there is none to start; None if `limit` have been run before that."""
        done = 0
        while limit is None or done < limit:
            self._interruption.check()
            turn = self._study.take()
            if isinstance(turn, Nothing):
                return turn
            self._run(turn, parent_run_id)
            self._interruption.check()
            done += 1
            self._progress()
        return None

    def _run(self, turn: Turn, parent_run_id: str | None) -> None:
        """One attempt, from its start to what the study is told."""
        again = ", continued" if turn.continued else ""
        self._say(
            f"trial {turn.number}{again}: {', '.join(f'{name}={value}' for name, value in turn.parameters.items())}"
        )
        reports = _Reports(self._sweep, self._study, self._database, turn, self._progress)
        process = TrialProcess(
            self._sweep,
            sweep_id=self._sweep.key,
            number=str(turn.number),
            parameters=turn.parameters,
            parent_run_id=parent_run_id,
            environ=self._environ,
            environment=self._environment,
            interruption=self._interruption,
            on_report=reports.add,
            say=self._say,
        )

        def lost() -> None:
            reports.lost = True
            process.stop("lost")

        with Heartbeat(
            lambda: self._study.beat(turn),
            self._sweep.heartbeat_s,
            lost=lost,
            done=self._database.storage.remove_session,
        ):
            outcome = process.run()
        if reports.lost:
            self._say_lost(turn)
        else:
            self._end(turn, outcome, reports)

    def _end(self, turn: Turn, outcome: Outcome, reports: "_Reports") -> None:
        if outcome.state == "waiting":
            self._put_back(turn, reports)
            if not self._interruption.requested:
                self._note_failure(turn, f"exit code {outcome.code}, though nobody had told it to end")
            return
        values, state = outcome.values, _STATES[outcome.state]
        if state == TrialState.COMPLETE and not values:
            # A trial that was continued after its last step has nothing more to measure.
            values = reports.last_values()
            state = state if values else TrialState.FAIL
        reason = outcome.reason if state == TrialState.FAIL else ""
        constraints = {**reports.last, **outcome.constraints}
        if not reports.send_rest() or not self._study.finish(turn, state, values, constraints, reason):
            self._say_lost(turn)
            return
        if state == TrialState.FAIL:
            self._note_failure(turn, reason)
            return
        self._failed = 0
        told = ", ".join(f"{each.name}={value:g}" for each, value in zip(self._sweep.objectives, values, strict=False))
        self._say(f"trial {turn.number} {outcome.state}{': ' if told else ''}{told}")

    def _note_failure(self, turn: Turn, reason: str) -> None:
        self._failed += 1
        self._say(f"trial {turn.number} failed: {reason}")
        if self._failed >= self._sweep.max_failed:
            raise TrainyardError(
                f"{self._failed} trials in a row failed in this worker, so it gives up (max_failed); the last one, trial "
                f"{turn.number}: {reason}"
            )

    def _put_back(self, turn: Turn, reports: "_Reports") -> None:
        """It was interrupted; if the study cannot be told, its heartbeats end, and the study finds out."""
        try:
            if not reports.send_rest(limit_s=_PUT_BACK_S, pause=time.sleep):
                self._say_lost(turn)
                return
            self._study.put_back(turn, limit_s=_PUT_BACK_S, pause=time.sleep)
            self._say(f"trial {turn.number} was interrupted and put back: any worker goes on with it")
        except TrainyardError as error:
            self._say(
                f"trial {turn.number} was interrupted and could not be put back ({error}): another worker takes it after "
                f"{self._database.grace_s:.0f} s"
            )

    def _say_lost(self, turn: Turn) -> None:
        self._say(f"trial {turn.number} was given to another worker, since this one had not been heard of for too long")

    def _progress(self) -> None:
        """Now and then; waits for nothing, since a trial may be running."""
        if self._parent is None or time.monotonic() < self._progress_at or self._database.contact.broken:
            return
        self._progress_at = time.monotonic() + _PROGRESS_S
        with contextlib.suppress(Away):
            self._parent.progress(self._database.contact.attempt(self._study.records))


_STATES: Final[Mapping[str, TrialState]] = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "stopped": TrialState.FAIL,
}


class _Reports:
    """What a trial measures, handed to the study; kept back while the database is away, so that the trial can go on."""

    def __init__(
        self, sweep: Sweep, study: SweepStudy, database: Database, turn: Turn, progress: Callable[[], None]
    ) -> None:
        self.lost = False
        """Whether the trial has been given to another worker."""
        self.last = dict(turn.last)
        """Newest value of each metric, of earlier attempts too."""
        self._objectives = [each.name for each in sweep.objectives]
        self._study = study
        self._database = database
        self._turn = turn
        self._progress = progress
        self._known = set(turn.steps)
        self._rest: dict[int, float] = {}

    def add(self, step: int, values: Mapping[str, float]) -> str | None:
        """Returns the reason to stop, if there is one."""
        self._progress()
        self.last |= values
        # Optuna does not prune where there are several objectives.
        if len(self._objectives) == 1 and self._objectives[0] in values and step not in self._known:
            self._known.add(step)
            self._rest[step] = values[self._objectives[0]]
        if self._database.contact.broken:  # the heartbeat finds out when it is back
            return None
        try:
            return "pruned" if self._send() else None
        except Away:
            return None
        except UpdateFinishedTrialError:
            self.lost = True
            return "lost"

    def last_values(self) -> tuple[float, ...]:
        """Of the objectives; empty where not all are known and finite."""
        values = [self.last.get(name, math.nan) for name in self._objectives]
        return tuple(values) if all(math.isfinite(value) for value in values) else ()

    def send_rest(self, *, limit_s: float = 900.0, pause: Callable[[float], None] | None = None) -> bool:
        """What was kept back; waits for the database. Returns False if the trial is another worker's by now."""
        try:
            self._database.call(self._send, limit_s=limit_s, pause=pause)
        except UpdateFinishedTrialError:
            return False
        return True

    def _send(self) -> bool:
        should_end = self._study.told(self._turn, self._rest, self.last)
        self._rest.clear()
        return should_end
