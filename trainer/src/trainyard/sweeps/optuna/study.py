"""The study of a sweep: its trials are given out under one lock, so that as many end as were wanted, and no more."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from sqlalchemy import text

from trainyard.errors import ConfigError
from trainyard.sweeps.grid import grid, wanted
from trainyard.sweeps.optuna.attempts import (
    CELL,
    LAST,
    PUT_BACK,
    REASON,
    Attempts,
    folded,
    original,
    record,
    violation,
    was_put_back,
)
from trainyard.sweeps.optuna.database import Database
from trainyard.sweeps.optuna.pruning import judge, pruner
from trainyard.sweeps.optuna.sampling import sampler
from trainyard.sweeps.optuna.space import search_space
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.sweep import ParameterValue, Sweep

_PARENT: Final = "parent"
_WITHOUT_HEARTBEAT: Final = text(
    "SELECT trial_id FROM trials WHERE study_id = :study AND state = 'RUNNING' "
    "AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """An attempt at a trial, given to this worker."""

    number: int
    """Of the trial: of its first attempt."""
    id: int
    """The storage's."""
    parameters: Mapping[str, ParameterValue]
    continued: bool
    """Whether there were attempts before this one."""
    steps: frozenset[int]
    """Whose values the study knows already, from earlier attempts."""
    last: Mapping[str, float]
    """The newest values that earlier attempts told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Nothing:
    """There is no trial to start."""

    running: int
    """Trials that others work on; they may come back."""


class SweepStudy:
    """All that workers do to it. Each method waits for the database, but for those that a running trial calls."""

    def __init__(self, sweep: Sweep, database: Database) -> None:
        self._sweep = sweep
        self._database = database
        self._space = dict(search_space(sweep))
        self._should_end = judge(sweep.early_stop)
        self._wanted = wanted(sweep)
        self._opened: optuna.Study | None = None

    def open(self) -> None:
        """Make the study if it is missing."""
        self._database.call(self._open)

    def load(self) -> bool:
        """The same, but return False if it is missing."""
        return self._database.call(self._load)

    def take(self) -> Turn | Nothing:
        """The next attempt, with a first heartbeat: an interrupted trial's first of all, then a new trial."""

        def take() -> Turn | Nothing:
            with self._database.locked(self._sweep.key):
                return self._take()

        return self._database.call(take)

    def beat(self, turn: Turn) -> bool:
        """Say that its worker is alive. Returns False if the attempt was ended by another one, or deleted. Raises Away."""

        def beat() -> bool:
            storage: Any = self._database.storage
            storage.record_heartbeat(turn.id)
            return bool(storage.get_trial(turn.id).state == TrialState.RUNNING)

        try:
            return self._database.contact.attempt(beat)
        except KeyError:  # with its study
            return False

    def told(self, turn: Turn, values: Mapping[int, float], last: Mapping[str, float]) -> bool:
        """Store values of the only objective by step, and the newest of all metrics; returns whether the trial should be pruned.

        Raises Away, or UpdateFinishedTrialError if the attempt was ended by another worker.
        """

        def tell() -> bool:
            storage = self._database.storage
            for step, value in values.items():
                storage.set_trial_intermediate_value(turn.id, step, value)
            storage.set_trial_user_attr(turn.id, LAST, dict(last))
            return bool(values) and self._should_end(self._study, storage.get_trial(turn.id))

        return self._database.contact.attempt(tell)

    def finish(
        self, turn: Turn, state: TrialState, values: tuple[float, ...], constraints: Mapping[str, float], reason: str
    ) -> bool:
        """End the trial; again, after a cut, where it is not known to have been stored. Returns False if another worker has it."""

        def finish() -> bool:
            storage = self._database.storage
            if storage.get_trial(turn.id).state.is_finished():  # stored, or another worker's
                return not was_put_back(storage.get_trial(turn.id))
            trial = optuna.Trial(self._study, turn.id)
            if state == TrialState.FAIL:
                trial.set_user_attr(REASON, reason)
            else:
                known = storage.get_trial(turn.id).constraints
                for index, each in enumerate(self._sweep.constraints):
                    if str(index) not in known:
                        trial.set_constraint(str(index), violation(each, constraints.get(each.metric)))
            told = list(values) if state == TrialState.COMPLETE else None
            return not was_put_back(self._study.tell(trial, told, state=state, skip_if_finished=True))

        try:
            return self._database.call(finish)
        except UpdateFinishedTrialError:
            return False

    def put_back(self, turn: Turn, *, limit_s: float, pause: Callable[[float], None]) -> None:
        """Let another worker continue it. Raises TrainyardError if that cannot be stored in time."""

        def put_back() -> None:
            with self._database.locked(self._sweep.key, pause):
                self._put_back(turn.id)

        self._database.call(put_back, limit_s=limit_s, pause=pause)

    def records(self) -> list[TrialRecord]:
        """What became of each trial; for `call` and the like, since it asks once."""
        return [record(self._sweep, attempts) for attempts in folded(self._study.get_trials(deepcopy=False))]

    def announce(self, run_id: str | None) -> None:
        """Tell the other workers which run the trials' parent is."""
        self._database.call(lambda: self._study.set_user_attr(_PARENT, {"run_id": run_id}))

    def parent(self) -> tuple[str | None] | None:
        """Id of the parent run, None where MLflow has none, in a tuple; None while the first worker has not announced it."""
        told = self._database.call(lambda: self._study.user_attrs.get(_PARENT))
        return None if told is None else (told["run_id"],)

    @property
    def _study(self) -> optuna.Study:
        assert self._opened is not None
        return self._opened

    def _load(self) -> bool:
        try:
            self._opened = optuna.load_study(
                study_name=self._sweep.key,
                storage=self._database.storage,
                sampler=sampler(self._sweep, 0),
                pruner=pruner(self._sweep.early_stop),
            )
        except KeyError:
            return False
        return True

    def _open(self) -> None:
        directions = [each.goal for each in self._sweep.objectives]
        if not self._load():
            with self._database.locked(self._sweep.key):
                if not self._load():
                    optuna.create_study(
                        study_name=self._sweep.key, storage=self._database.storage, directions=directions
                    )
                    self._load()
        if [each.name.lower() for each in self._study.directions] != directions:
            raise ConfigError(
                f"study {self._sweep.key} has other objectives than the sweep file; name the sweep otherwise"
            )

    def _take(self) -> Turn | Nothing:
        """Under the lock."""
        self._reap()
        trials = folded(self._study.get_trials(deepcopy=False))
        states = [each.state for each in trials]
        # As Optuna does: the one that was put back first.
        waiting = [trial for each in trials for trial in each.all if trial.state == TrialState.WAITING]
        cell = None
        if waiting:
            first = min(waiting, key=lambda trial: trial.number)
            place = [each.first.number for each in trials].index(original(first))
        else:
            place = len(trials)
            counted = sum(state != "failed" for state in states)
            cell = self._next_cell(trials) if self._sweep.method == "grid" else None
            if counted >= self._wanted or (self._sweep.method == "grid" and cell is None):
                return Nothing(running=states.count("running"))
        if cell is not None:
            number, parameters = cell
            self._study.enqueue_trial(parameters, user_attrs={CELL: number})
        return self._ask(place)

    def _ask(self, place: int) -> Turn:
        self._study.sampler = sampler(self._sweep, place)
        trial = self._study.ask(self._space)
        storage: Any = self._database.storage
        id = storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        storage.record_heartbeat(id)
        frozen = storage.get_trial(id)
        return Turn(
            number=original(frozen),
            id=id,
            parameters={**self._sweep.constants, **frozen.params},
            continued=original(frozen) != frozen.number,
            steps=frozenset(frozen.intermediate_values),
            last=frozen.user_attrs.get(LAST, {}),
        )

    @property
    def _id(self) -> int:
        try:
            return int(self._database.storage.get_study_id_from_name(self._sweep.key))
        except KeyError as error:
            raise ConfigError(f"study {self._sweep.key} was deleted while this worker was at it") from error

    def _next_cell(self, trials: list[Attempts]) -> tuple[int, dict[str, ParameterValue]] | None:
        """The first one that no trial has had."""
        had = {each.first.user_attrs.get(CELL) for each in trials}
        axes = grid(self._sweep)
        cells = math.prod(len(values) for values in axes.values())
        number = next((number for number in range(cells) if number not in had), None)
        if number is None:
            return None
        return number, dict(zip(axes, next(islice(product(*axes.values()), number, None)), strict=True))

    def _reap(self) -> None:
        """Under the lock: put back what nobody works on any more."""
        storage: Any = self._database.storage
        # Whoever holds the lock gives a first sign of life before letting go of it, so who gave none is gone.
        study_id = self._id  # before the connection: with the lock's, there are no more than two
        with self._database.engine.connect() as connection:
            abandoned = [int(id) for (id,) in connection.execute(_WITHOUT_HEARTBEAT, {"study": study_id})]
        # After the database was away, everybody's last sign of life is old.
        if self._database.contact.held_s > self._database.grace_s:
            abandoned += storage._get_stale_trial_ids(study_id)
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == TrialState.FAIL and was_put_back(trial):
                abandoned.append(trial._trial_id)
        for id in abandoned:
            self._put_back(id)

    def _put_back(self, id: int) -> None:
        """Under the lock. Each of its three steps may be the last one, and is then followed by the others later."""
        storage = self._database.storage
        trial = storage.get_trial(id)
        if trial.state == TrialState.RUNNING:
            try:
                storage.set_trial_user_attr(id, PUT_BACK, trial.number)
                storage.set_trial_state_values(id, state=TrialState.FAIL)
            except UpdateFinishedTrialError:  # it has just ended by itself
                return
        trial = copy.deepcopy(storage.get_trial(id))
        if trial.state == TrialState.FAIL and was_put_back(trial) and not self._is_continued(trial.number):
            RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(self._study, trial)

    def _is_continued(self, number: int) -> bool:
        others = self._study.get_trials(deepcopy=False)
        return any(number in RetryHeartbeatStaleTrialCallback.retry_history(other) for other in others)
