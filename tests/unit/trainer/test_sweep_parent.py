"""The parent run in a real MLflow database: the same one after a restart, with the best trial's run marked."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from mlflow.entities import Run
from trainyard.errors import TrackingError
from trainyard.interruption import Interruption
from trainyard.sweeps.parent import ParentRun, find_parent
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.sweep import Choice, Objective, Sweep

from tests.unit.trainer.conftest import Laptop

SWEEP = Sweep(
    name="tries",
    program=("python", "my.py", "--lr", "{lr}"),
    objectives=(Objective(name="loss"),),
    parameters={"lr": Choice(values=(0.1, 0.2, 0.3))},
    constants={"epochs": 2},
    experiment="searches",
    trials=3,
)


def trials(*losses: float) -> list[TrialRecord]:
    return [
        TrialRecord(number=str(at), state="finished", parameters={"lr": 0.1 * (at + 1)}, values=(loss,))
        for at, loss in enumerate(losses)
    ]


def parent(laptop: Laptop, say: Callable[[str], None] = print, sweep: Sweep = SWEEP, **settings: Any) -> ParentRun:
    environment = replace(laptop.environment, **settings)
    return ParentRun(sweep, sweep_id=sweep.key, environment=environment, interruption=Interruption(), say=say)


def make_trial_runs(laptop: Laptop, count: int) -> list[str]:
    """As trials make them, in an experiment of their own."""
    experiment = laptop.client.create_experiment("digits")
    return [
        laptop.client.create_run(
            experiment, tags={"trainyard.sweep_id": SWEEP.key, "trainyard.trial": str(number)}
        ).info.run_id
        for number in range(count)
    ]


def marks(laptop: Laptop) -> Mapping[str, str]:
    return {
        run.info.run_id: run.data.tags["trainyard.best"] for run in laptop.runs() if "trainyard.best" in run.data.tags
    }


def artifacts(laptop: Laptop, run: Run) -> set[str]:
    found = laptop.client.list_artifacts(run.info.run_id)
    return {each.path for each in found} | {
        each.path for each in laptop.client.list_artifacts(run.info.run_id, "plots")
    }


def test_a_restarted_first_worker_goes_on_with_the_same_run(laptop: Laptop) -> None:
    runs = make_trial_runs(laptop, 3)
    with pytest.raises(SystemExit), parent(laptop) as first:
        (told,) = laptop.runs("searches")
        assert told.info.run_id == first.run_id, "it must be there before the first trial"
        first.progress(trials(0.5))
        raise SystemExit(75)
    (run,) = laptop.runs("searches")
    assert (run.info.status, run.data.tags["trainyard.end_reason"]) == ("SCHEDULED", "preempted")

    with parent(laptop) as second:
        second.progress(trials(0.5))
        second.progress(trials(0.5, 0.4))
        second.report(trials(0.5, 0.4, 0.7))
    (run,) = laptop.runs("searches")
    assert second.run_id == first.run_id == run.info.run_id
    assert run.info.run_name == "tries"
    assert run.info.status == "FINISHED"
    history = laptop.client.get_metric_history(run.info.run_id, "sweep/best")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.4), (3, 0.4)]
    assert run.data.params["best/lr"] == "0.2"
    assert run.data.params["best/epochs"] == "2"
    assert run.data.params["parameters.lr.values"] == "[0.1, 0.2, 0.3]"
    assert run.data.tags["trainyard.sweep_role"] == "parent"
    assert run.data.tags.get("trainyard.job_uid") is None, "the sweep's identity is not a Job's"
    assert artifacts(laptop, run) >= {
        "sweep.yaml",
        "trials.json",
        "trials.csv",
        "best.yaml",
        "plots/optimization_history.png",
    }
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "trials.json", "type": "table"}]
    assert marks(laptop) == {runs[1]: "true"}


def test_the_mark_moves_when_a_sweep_goes_on_and_finds_a_better_trial(laptop: Laptop) -> None:
    runs = make_trial_runs(laptop, 3)
    with parent(laptop) as first:
        first.report(trials(0.5, 0.4))
    assert marks(laptop) == {runs[1]: "true"}
    with parent(laptop, sweep=replace(SWEEP, trials=9)) as second:
        second.report([*trials(0.5, 0.4), replace(trials(0.1)[0], number="elsewhere", run_id=runs[2])])
    assert marks(laptop) == {runs[2]: "true"}
    (run,) = laptop.runs("searches")
    assert (run.data.params["best/lr"], run.data.params["best of 3/lr"]) == ("0.2", "0.1")


@pytest.mark.parametrize(
    ("code", "status"), [(None, "FAILED"), (0, "FAILED"), (42, "FAILED"), (143, "KILLED"), (75, "SCHEDULED")]
)
def test_a_sweep_without_a_report_is_not_finished(laptop: Laptop, code: int | None, status: str) -> None:
    def leave() -> None:
        with parent(laptop):
            if code is not None:
                raise SystemExit(code)

    if code is None:
        leave()
    else:
        with pytest.raises(SystemExit):
            leave()
    (run,) = laptop.runs("searches")
    assert run.info.status == status


def test_a_sweep_of_which_no_trial_finished_failed_and_has_a_report(laptop: Laptop) -> None:
    failed = [replace(each, state="failed", values=(), reason="exit code 3") for each in trials(1, 1)]
    with parent(laptop) as run:
        run.report(failed)
    (found,) = laptop.runs("searches")
    assert found.info.status == "FAILED"
    assert found.data.metrics["sweep/failed"] == 2
    assert "trials.json" in artifacts(laptop, found)


def test_without_mlflow_the_report_is_in_the_folder(laptop: Laptop) -> None:
    settings: dict[str, Any] = {
        "tracking": ("json",),
        "backend_settings": {"TRAINYARD_JSON_DIR": str(laptop.folder / ".trainyard" / "runs")},
    }
    with parent(laptop, **settings) as run:
        assert run.run_id is None
        run.report(trials(0.5, 0.4))
    written = laptop.json_run("searches")
    assert written["status"] == "FINISHED"
    assert (written["folder"] / "artifacts" / "best.yaml").is_file()
    environment = replace(laptop.environment, tracking=("json",))
    assert find_parent(SWEEP.key, environment, wait_s=60, interruption=Interruption()) is None


def test_a_best_trial_that_records_elsewhere_is_told(laptop: Laptop) -> None:
    said: list[str] = []
    with parent(laptop, said.append) as run:
        run.report(trials(0.5))
    assert any("the best trial, 0, has no run in MLflow" in line for line in said)


def test_other_workers_wait_for_the_parent_run(laptop: Laptop) -> None:
    make_trial_runs(laptop, 1)  # two that make a database file at once are not what this is about
    found: list[object] = []

    def wait() -> None:
        found.append(find_parent(SWEEP.key, laptop.environment, wait_s=60, interruption=Interruption()))

    waiting = threading.Thread(target=wait)
    waiting.start()
    with parent(laptop) as run:
        waiting.join(60)
        (parent_run,) = found
        assert parent_run and parent_run["run_id"] == run.run_id  # type: ignore[index]
        assert parent_run["tags"]["trainyard.sweep_key"] == SWEEP.key  # type: ignore[index]
    assert find_parent("another", laptop.environment, wait_s=0, interruption=Interruption()) is None


def test_no_sweep_begins_without_its_server(laptop: Laptop) -> None:
    environment = replace(
        laptop.environment,
        tracking_uri="http://127.0.0.1:9",
        backend_settings={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        tracking_wait_s=0.0,
    )
    run = ParentRun(SWEEP, sweep_id="x", environment=environment, interruption=Interruption(), say=print)
    with pytest.raises(TrackingError, match="TRAINYARD_TRACKING_WAIT_S"), run:
        pass
