"""`trainyard sweep run` with Optuna on SQLite: real workers, real studies, no server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState
from sqlalchemy import text
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError
from trainyard.interruption import Interruption
from trainyard.sweeps.file import read_sweep
from trainyard.sweeps.optuna.address import address
from trainyard.sweeps.optuna.database import Database
from trainyard.sweeps.optuna.study import SweepStudy, Turn
from trainyard.sweeps.optuna.worker import trials
from trainyard.sweeps.records import TrialRecord

from tests.unit.sweeps import program

_PROGRAM = [sys.executable, program.__file__]
_X = {"x": {"min": 0.0, "max": 1.0}}
_TIMEOUT_S = 60.0


@dataclass
class Bench:
    """Workers of one machine, on one state directory."""

    folder: Path
    sweep: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.gates.mkdir(parents=True)
        self.file.write_text(yaml.safe_dump(dict(self.sweep)))

    @property
    def gates(self) -> Path:
        return self.folder / "gates"

    @property
    def file(self) -> Path:
        return self.folder / "sweep.yaml"

    @property
    def environ(self) -> dict[str, str]:
        told = {
            "TRAINYARD_TRACKING": "json",
            "TRAINYARD_STATE_DIR": str(self.folder / "state"),
            "TRAINYARD_OPTUNA_URL": f"sqlite:///{self.folder}/state/sweeps.db",
            "GATES": str(self.gates),
            "STARTS": str(self.folder / "starts"),
        }
        return {**os.environ, **told}

    def start(self, index: int = 0, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "trainyard", "sweep", "run", str(self.file), *arguments],
            env={**self.environ, "JOB_COMPLETION_INDEX": str(index), **environ},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *, workers: int = 1, **environ: str) -> list[tuple[int, str]]:
        """Exit codes and outputs."""
        return [ended(worker) for worker in [self.start(index, **environ) for index in range(workers)]]

    @property
    def starts(self) -> list[list[str]]:
        path = self.folder / "starts"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def records(self) -> list[TrialRecord]:
        return trials(read_sweep(self.file), self.environ, JobEnvironment.read(self.environ))

    def close_gate(self, trial: int, step: int) -> Path:
        gate = self.gates / f"{trial}-{step}"
        gate.touch()
        return gate


def ended(worker: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = worker.communicate(timeout=_TIMEOUT_S)
    return worker.returncode, output


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, f"not within {_TIMEOUT_S:g} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def make(**sweep: Any) -> Bench:
        base = {
            "name": "test",
            "metric": {"name": "loss", "goal": "minimize"},
            "method": "random",
            "parameters": _X,
            "trials": 4,
            "heartbeat_s": 1,
            "program": [*_PROGRAM, "{x}", "2"],
        }
        return Bench(tmp_path / str(len(list(tmp_path.iterdir()))), {**base, **sweep})

    return make


@pytest.mark.parametrize("method", ["random", "tpe", "cmaes"])
def test_several_workers_search_what_one_does(bench: Callable[..., Bench], method: str) -> None:
    search = {"method": method, "trials": 6, "parameters": {**_X, "y": {"min": 1, "max": 9}}}
    together, alone = bench(**search), bench(**search)
    results = [*together.run(workers=3), *alone.run()]
    assert [code for code, _ in results] == [0, 0, 0, 0], results
    for records in (together.records, alone.records):
        assert [record.state for record in records] == ["finished"] * 6
    if method != "cmaes":  # which proposes by what has ended
        assert [record.parameters for record in together.records] == [record.parameters for record in alone.records]
    assert len({record.parameters["x"] for record in alone.records}) == 6
    assert len(together.starts) == 6
    for record in together.records:
        assert list(record.values) == pytest.approx([float(record.parameters["x"]) + 0.5])
        assert list(record.history) == [10, 20]


def test_a_grid_has_each_cell_once_and_in_order(bench: Callable[..., Bench]) -> None:
    parameters = {"x": {"values": [1, 2]}, "y": {"min": 0.0, "max": 0.3, "distribution": "q_uniform", "q": 0.1}}
    grid = bench(method="grid", trials=100, parameters={**parameters, "z": {"value": "same"}})
    results = grid.run(workers=3)
    assert [code for code, _ in results] == [0, 0, 0], results
    expected = [{"x": x, "y": y, "z": "same"} for x in (1, 2) for y in (0.0, 0.1, 0.2, 0.3)]
    assert [dict(record.parameters) for record in grid.records] == expected
    assert len(grid.starts) == 8


def test_an_interrupted_trial_goes_on_where_it_was_in_another_worker(bench: Callable[..., Bench]) -> None:
    sweep = bench(trials=2, program=[*_PROGRAM, "{x}", "4"])
    gate = sweep.close_gate(0, 3)
    first = sweep.start()
    wait_until(gate.with_suffix(".reached").exists, "step 3 of trial 0")
    first.send_signal(signal.SIGTERM)
    code, output = ended(first)
    assert code == 75, output
    assert [record.state for record in sweep.records] == ["waiting"]
    gate.unlink()
    ((code, output),) = sweep.run()
    assert code == 0, output
    assert [(record.number, record.state, record.attempts) for record in sweep.records] == [
        ("0", "finished", 2),
        ("2", "finished", 1),
    ]
    assert [start[:2] for start in sweep.starts] == [["0", "1"], ["0", "3"], ["2", "1"]]
    assert list(sweep.records[0].history) == [10, 20, 30, 40]


def test_a_killed_workers_trial_goes_on_after_three_heartbeats(bench: Callable[..., Bench]) -> None:
    sweep = bench(trials=3)
    gate = sweep.close_gate(0, 2)
    killed = sweep.start()
    wait_until(gate.with_suffix(".reached").exists, "step 2 of trial 0")
    killed.kill()
    ended(killed)
    gate.unlink()
    ((code, output),) = sweep.run()
    assert code == 0, output
    assert [(record.state, record.attempts) for record in sweep.records] == [("finished", 2), *[("finished", 1)] * 2]
    assert ["0", "2"] in [start[:2] for start in sweep.starts]


def test_failing_trials_are_not_counted_and_end_the_worker(bench: Callable[..., Bench]) -> None:
    sweep = bench(max_failed=3)
    ((code, output),) = sweep.run(EXIT="7")
    assert code == 1
    assert "3 trials in a row failed" in output and "exit code 7" in output
    assert [(record.state, "exit code 7" in record.reason) for record in sweep.records] == [("failed", True)] * 3
    ((code, output),) = sweep.run()
    assert code == 0, output
    assert [record.state for record in sweep.records] == ["failed"] * 3 + ["finished"] * 4
    ((code, output),) = sweep.run()
    assert code == 0 and "is complete: 4 finished, 0 pruned, 3 failed" in output
    assert len(sweep.starts) == 7


def test_bad_trials_are_ended_early(bench: Callable[..., Bench]) -> None:
    stop = {"type": "asha", "min_iter": 2, "eta": 2}
    sweep = bench(
        method="grid",
        parameters={"x": {"values": [1, 2, 3, 4]}},
        early_terminate=stop,
        program=[*_PROGRAM, "{x}", "8"],
    )
    # Whether a trial is quicker than its end is not what is tested.
    gates = [sweep.close_gate(number, 3) for number in (1, 2, 3)]
    ((code, output),) = sweep.run()
    assert code == 0, output
    assert all(gate.exists() for gate in gates)
    assert [(record.state, len(record.history)) for record in sweep.records] == [
        ("finished", 8),
        *[("pruned", 2)] * 3,
    ]


def test_a_constraint_holds_over_an_interruption(bench: Callable[..., Bench]) -> None:
    sweep = bench(
        method="grid",
        parameters={"x": {"values": [1, 3]}},
        constraints=[{"metric": "size", "max": 200}],
    )
    gate = sweep.close_gate(0, 2)  # `size` is told before it, and not again
    first = sweep.start()
    wait_until(gate.with_suffix(".reached").exists, "step 2 of trial 0")
    first.terminate()
    assert ended(first)[0] == 75
    gate.unlink()
    ((code, output),) = sweep.run()
    assert code == 0, output
    assert [(record.parameters["x"], record.feasible) for record in sweep.records] == [(1, True), (3, False)]


def test_several_objectives(bench: Callable[..., Bench]) -> None:
    metric = [{"name": "loss", "goal": "minimize"}, {"name": "size", "goal": "maximize"}]
    sweep = bench(method="nsga2", metric=metric, trials=12)
    ((code, output),) = sweep.run()
    assert code == 0, output
    for record in sweep.records:
        x = float(record.parameters["x"])
        assert list(record.values) == pytest.approx([x + 0.5, 100 * x])


def test_a_worker_leaves_after_its_share(bench: Callable[..., Bench]) -> None:
    sweep = bench(trials=3)
    gate = sweep.close_gate(0, 1)
    first = sweep.start()
    wait_until(gate.with_suffix(".reached").exists, "trial 0")
    code, output = ended(sweep.start(1, "--trials-per-worker", "1"))
    assert (code, len(sweep.starts)) == (0, 2), output
    gate.unlink()
    assert ended(first)[0] == 0
    assert len(sweep.starts) == 3


def opened(bench: Bench) -> tuple[Database, SweepStudy]:
    """As a worker that has just started has it."""
    environment, sweep = JobEnvironment.read(bench.environ), read_sweep(bench.file)
    url = address(bench.environ, environment)
    database = Database(
        url, heartbeat_s=sweep.heartbeat_s, environment=environment, interruption=Interruption(), say=print
    )
    database.open(make=True)
    study = SweepStudy(sweep, database)
    study.open()
    return database, study


def test_only_who_has_seen_the_database_for_long_enough_calls_others_dead(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = bench(heartbeat_s=10)
    (_, busy), (database, other) = opened(sweep), opened(sweep)
    trial = busy.take()
    assert isinstance(trial, Turn)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'"))
    fresh = other.take()
    assert isinstance(fresh, Turn) and fresh.number == 1
    assert busy.beat(trial)
    with database.engine.begin() as connection:
        connection.execute(
            text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00' WHERE trial_id = :id"), {"id": trial.id}
        )
    now = time.monotonic
    for seconds in (20, 40):  # an answer every 20 s is no break
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now() + seconds)
        other.beat(fresh)
    again = other.take()
    assert isinstance(again, Turn) and (again.number, again.continued) == (0, True)
    assert not busy.beat(trial)
    assert not busy.finish(trial, TrialState.COMPLETE, (0.1,), {}, "")
    # Whether the first answer arrived or not, the second one says the same.
    assert [other.finish(again, TrialState.COMPLETE, (value,), {}, "") for value in (0.2, 0.3)] == [True, True]
    assert [(record.state, record.values) for record in other.records()] == [("finished", (0.2,)), ("running", ())]


def test_a_worker_that_died_before_its_first_heartbeat_is_known_to_be_dead(bench: Callable[..., Bench]) -> None:
    sweep = bench()
    (database, dead), (_, other) = opened(sweep), opened(sweep)
    first = dead.take()
    assert isinstance(first, Turn)
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM trial_heartbeats"))
    again = other.take()
    assert isinstance(again, Turn) and (again.number, again.parameters) == (first.number, first.parameters)


@pytest.mark.parametrize("url", ["postgresql://u:secret@host/db", "mysql://u:secret@host/db", "u:secret", "sqlite://"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="TRAINYARD_OPTUNA_URL") as refused:
        address({"TRAINYARD_OPTUNA_URL": url}, JobEnvironment())
    assert "secret" not in str(refused.value)


def test_pods_of_a_job_need_a_database() -> None:
    with pytest.raises(ConfigError, match="share a study only in a database"):
        address({}, JobEnvironment(job_index=1))


def test_a_study_that_does_not_exist_is_not_made_by_asking(bench: Callable[..., Bench]) -> None:
    sweep = bench()
    with pytest.raises(ConfigError, match="there is no study test-"):
        assert sweep.records
    assert not (sweep.folder / "state").exists()
