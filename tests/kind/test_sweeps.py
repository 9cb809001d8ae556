"""Sweeps end as what they were: every trial once, the interrupted ones whole, the report there, and no Job complete that is not.

One storm for all of them, side by side, as far as the selected tests ask for them; the tests look at what came of each.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

import pytest

from tests.kind import sweep_manifests, sweep_optuna, sweep_wandb, wandb_standin
from tests.kind.manifest_headers import clean
from tests.kind.platform import Platform, metrics, params, tags
from tests.kind.programs.sweep_trial import loss
from tests.kind.sweep_jobs import Ended, exit_code, lasted_s, remove_sweeps
from tests.kind.training_pods import mount_programs
from tests.kind.wandb_server.store import ENTITY

Lives = Callable[[Platform, str], Mapping[str, Future[Ended]]]
LIVES: Final[Mapping[tuple[str, ...], Lives]] = {
    # Before the others make the tables that it must find missing.
    ("meeting",): sweep_optuna.meeting,
    ("ray",): sweep_manifests.ray,
    ("bayes", "grid", "failing", "refused", "stopped"): sweep_wandb.searches,
    ("search", "serial"): sweep_optuna.searches,
    ("example",): sweep_manifests.example,
    ("chart", "wandb"): sweep_manifests.chart,
}
"""What is lived together, in the order in which it begins."""
AT_A_TIME: Final = 2
"""So many of them: more pods would only wait for the few cores."""
REPORT: Final = {
    "best.yaml",
    "sweep.yaml",
    "trials.csv",
    "trials.json",
    "plots/optimization_history.png",
    "plots/parallel_coordinates.png",
}
Storm = dict[str, Callable[[], Ended]]


@pytest.fixture(scope="module")
def storm(request: pytest.FixtureRequest, platform: Platform) -> Iterator[Storm]:
    """The sweeps by name, each of which gives what became of it; all have ended."""
    token = secrets.token_hex(3)
    wanted = asked_for(request)
    lives = {names: life for names, life in LIVES.items() if wanted & set(names)}
    mount_programs(platform)
    sweep_optuna.reset(platform)
    wandb_standin.deploy(platform)
    try:
        with ThreadPoolExecutor(AT_A_TIME) as together:
            running = {names: together.submit(life, platform, token) for names, life in lives.items()}
        yield {name: partial(outcome, life, name) for names, life in running.items() for name in names}
    finally:
        remove_sweeps(platform, [f"{name}-{token}" for names in lives for name in names])
        wandb_standin.remove(platform)
        platform.kubectl("delete", "configmap", "programs")
        for name, file in (("example", sweep_manifests.OPTUNA), ("ray", sweep_manifests.RAY)):
            if (name,) in lives:
                clean(platform, file)
        if ("chart", "wandb") in lives:
            clean(platform, sweep_manifests.WANDB)
            platform.kubectl("delete", "secret", "wandb", "--ignore-not-found")
            platform.upgrade()


def outcome(life: Future[Mapping[str, Future[Ended]]], name: str) -> Ended:
    """What became of one sweep; raises what went wrong with it, or with all that are lived together."""
    return life.result()[name].result()


def asked_for(request: pytest.FixtureRequest) -> set[str]:
    """Names of the sweeps that the selected tests look at."""
    asked: set[str] = set()
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec"):
            asked.add(str(item.callspec.params["sweep"]))
    return asked


@pytest.fixture(scope="module")
def sweep(request: pytest.FixtureRequest, storm: Storm) -> Ended:
    """The one that the test names, at its end."""
    return storm[request.param]()


def of(*names: str) -> pytest.MarkDecorator:
    """The test looks at each of these sweeps."""
    return pytest.mark.parametrize("sweep", names, indirect=True)


@of("bayes", "grid", "search", "serial", "example", "chart", "wandb", "meeting", "ray")
def test_a_sweep_that_is_complete_has_a_report(platform: Platform, sweep: Ended) -> None:
    assert sweep.end == "Complete"
    assert set(sweep.job.exit_codes) <= {0, 75, 137}
    parent = sweep.job.parent
    assert (parent["info"]["status"], tags(parent)["trainyard.end_reason"]) == ("FINISHED", "finished")
    assert sweep.job.artifacts() >= REPORT
    table = json.loads(platform.download(parent["info"]["run_id"], "trials.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert {row["state"] for row in rows} <= {"finished", "pruned"}
    (best,) = [row for row in rows if row["best"]]
    assert tags(parent)["trainyard.best_trial"] == best["trial"]


@of("bayes", "grid", "search", "serial")
def test_every_trial_is_one_finished_run_with_every_step_once(sweep: Ended) -> None:
    trials = sweep.job.trials
    assert len(trials) == sweep.trials
    for number, run in trials.items():
        assert (run["info"]["status"], tags(run)["trainyard.end_reason"]) == ("FINISHED", "finished"), number
        x = float(params(run)["x"])
        assert sweep.job.rows(run) == [(step, loss(x, step)) for step in range(1, sweep.steps + 1)], number


@of("bayes", "grid", "search")
def test_what_was_interrupted_went_on_as_the_same_run(sweep: Ended) -> None:
    trials = sweep.job.trials
    assert len(set(sweep.interrupted)) == 2
    for number in sweep.interrupted:
        assert int(tags(trials[number])["trainyard.attempt"]) >= 2, number


@of("bayes", "grid", "search", "serial", "chart")
def test_the_best_trial_is_marked(sweep: Ended) -> None:
    trials, parent = sweep.job.trials, sweep.job.parent
    key = params(parent)["metric.name"]
    best = min(trials, key=lambda number: metrics(trials[number])[key])
    assert [number for number, run in trials.items() if tags(run).get("trainyard.best") == "true"] == [best]
    assert tags(parent)["trainyard.best_trial"] == best


@of("bayes", "grid")
def test_wandb_has_each_trial_once_and_whole(platform: Platform, sweep: Ended) -> None:
    seen = wandb_standin.state(platform)
    assert seen["unknown_operations"] == []
    for number, run in sweep.job.trials.items():
        record = seen["runs"][f"{ENTITY}/{sweep_wandb.PROJECT}/{number}"]
        assert (record["state"], record["rewritten_lines"]) == ("finished", 0), number
        rows = [(row["trainyard/step"], row["loss"]) for row in record["history"]]
        assert rows == sweep.job.rows(run), number


@of("wandb")
def test_the_manifest_for_wandb_needs_a_key_and_an_address(platform: Platform, sweep: Ended) -> None:
    known = wandb_standin.state(platform)["runs"]
    trials = sweep.job.trials
    assert len(trials) == sweep.trials
    for number, run in trials.items():
        assert run["info"]["status"] == "FINISHED", number
        assert known[f"{ENTITY}/{sweep_manifests.WANDB_PROJECT}/{number}"]["state"] == "finished", number


@of("failing")
def test_a_sweep_whose_trials_all_fail_is_failed_and_says_why(sweep: Ended) -> None:
    assert sweep.end == "Failed"
    assert sweep.job.exit_codes == [1]
    assert "exit code 1" in sweep.job.log
    assert sweep.job.parent["info"]["status"] == "FAILED"
    assert {run["info"]["status"] for run in sweep.job.trials.values()} == {"FAILED"}


@of("refused")
def test_a_wrong_key_ends_the_sweep_at_once(sweep: Ended) -> None:
    assert sweep.end == "Failed"
    (pod,) = sweep.job.pods
    assert exit_code(pod) == 42
    assert "WANDB_API_KEY" in sweep.job.log
    assert lasted_s(pod) < 60


@of("stopped")
def test_a_sweep_that_is_stopped_at_the_server_ends_soon(sweep: Ended) -> None:
    assert sweep.end == "Failed"
    assert sweep.seconds <= sweep_wandb.END_S
    trials = sweep.job.trials
    for number in sweep.interrupted:
        run = trials[number]
        assert (run["info"]["status"], tags(run)["trainyard.end_reason"]) == ("KILLED", "stopped"), number


@of("search", "serial", "meeting")
def test_there_are_exactly_as_many_trials_as_asked_for_and_none_twice(sweep: Ended) -> None:
    states = sweep_optuna.states(sweep.job)
    assert states["COMPLETE"] + states["PRUNED"] == sweep.trials
    assert states["RUNNING"] == states["WAITING"] == 0, states
    tried = sweep_optuna.tried(sweep.job)
    assert tried == dict.fromkeys(tried, 1)


@of("search")
def test_several_workers_find_what_one_finds(sweep: Ended, storm: Storm) -> None:
    serial = storm["serial"]()
    assert sweep_optuna.tried(sweep.job) == sweep_optuna.tried(serial.job)
    assert sweep_optuna.best(sweep.job) == sweep_optuna.best(serial.job)


@of("example")
def test_pruning_saves_two_fifths_of_the_shipped_example(sweep: Ended) -> None:
    trials = sweep.job.trials.values()
    key = params(sweep.job.parent)["metric.name"]
    measured = sum(len(sweep.job.rows(run, key)) for run in trials)
    whole = sum(int(params(run)["epochs"]) for run in trials)
    print(f"{len(trials)} trials measured {measured} of {whole} epochs")
    assert measured <= 0.6 * whole
    ends = Counter(tags(run)["trainyard.end_reason"] for run in trials)
    assert ends.keys() == {"finished", "pruned"}


@of("meeting")
def test_many_workers_that_start_together_on_an_empty_database_all_work(sweep: Ended) -> None:
    # Each trial waited for all the others, in a worker of its own.
    assert sweep.job.exit_codes == [0] * sweep_optuna.CROWD


@of("chart")
def test_an_entry_of_the_chart_is_a_sweep(sweep: Ended) -> None:
    trials = sweep.job.trials
    assert len(trials) == sweep.trials
    for number, run in trials.items():
        assert run["info"]["status"] == "FINISHED", number
        assert [step for step, _ in sweep.job.rows(run, "validation/loss")] == list(range(1, sweep.steps + 1)), number


@of("ray")
def test_ray_goes_on_in_another_pod_with_every_trial_once(sweep: Ended) -> None:
    trials = sweep.job.trials
    assert len(trials) == sweep.trials
    for number, run in trials.items():
        steps = [step for step, _ in sweep.job.rows(run, "validation/loss")]
        assert steps == list(range(1, len(steps) + 1)), number
        end = (run["info"]["status"], tags(run)["trainyard.end_reason"])
        assert end == (("FINISHED", "finished") if len(steps) == sweep.steps else ("KILLED", "pruned")), number
    assert max(int(tags(run).get("trainyard.attempt", "1")) for run in trials.values()) >= 2
