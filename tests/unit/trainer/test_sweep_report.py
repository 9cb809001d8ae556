"""What a sweep came to, from trials that are known here."""

import csv
import io
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from trainyard.config import configure
from trainyard.sweeps.records import TrialRecord
from trainyard.sweeps.report.best import best
from trainyard.sweeps.report.configuration import fixed_settings, sweep_file
from trainyard.sweeps.report.importances import importances
from trainyard.sweeps.report.learning_curves import learning_curves_png
from trainyard.sweeps.report.optimization_history import optimization_history_png
from trainyard.sweeps.report.parallel_coordinates import parallel_coordinates_png
from trainyard.sweeps.report.pareto_front import pareto_front_png
from trainyard.sweeps.report.tables import trials_csv, trials_json
from trainyard.sweeps.report.winners import best_yaml, note, task_configs
from trainyard.sweeps.report.writing import write_report
from trainyard.sweeps.sweep import Choice, Constraint, Objective, Range, Sweep
from trainyard.tasks.digits.config import DigitsConfig

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOSS, ACCURACY, SIZE = (
    Objective(name="validation/loss"),
    Objective(name="validation/accuracy", goal="maximize"),
    Objective(name="model/parameters"),
)
SWEEP = Sweep(
    name="digits-lr",
    program=("trainyard", "train", "digits", "--set", "epochs=2"),
    objectives=(LOSS,),
    parameters={
        "lr": Range(low=1e-4, high=1e-1, log=True),
        "model.channels": Choice(values=(8, 16, 32)),
        "augment": Choice(values=(True, False)),
    },
    constants={"batch_size": 64},
    constraints=(Constraint(metric="model/parameters", max=1000),),
)


def trial(number: int, *values: float, **known: Any) -> TrialRecord:
    drawn = np.random.default_rng(number)
    parameters = {
        "lr": float(10 ** drawn.uniform(-4, -1)),
        "model.channels": int(drawn.choice([8, 16, 32])),
        "augment": bool(number % 2),
    }
    made = TrialRecord(
        number=str(number),
        state="finished",
        parameters=parameters,
        values=values,
        history={step: values[0] + 1 / step for step in range(1, 4)} if values else {},
        began=BEGAN,
        ended=BEGAN + timedelta(seconds=90.5),
        run_id=f"run{number}",
    )
    return replace(made, **known)


def several(*objectives: Objective) -> Sweep:
    return replace(SWEEP, objectives=objectives)


def numbers(trials: Sequence[TrialRecord]) -> list[str]:
    return [each.number for each in trials]


def test_the_best_one_keeps_the_constraints_and_is_whole() -> None:
    trials = [
        trial(0, 0.5),
        trial(1, 0.2),
        trial(2, 0.1, feasible=False),
        trial(3, 0.1, state="pruned"),
        trial(4, math.nan),
        trial(5, -math.inf),
        trial(6, 0.2),
        trial(7, state="failed"),
        trial(8, state="waiting"),
    ]
    assert numbers(best(SWEEP, trials)) == ["1"]
    assert numbers(best(several(replace(LOSS, goal="maximize")), trials)) == ["0"]
    assert best(SWEEP, [trials[2], trials[4], trials[7]]) == []


def test_of_several_objectives_all_that_are_not_beaten_are_best() -> None:
    trials = [
        trial(0, 0.5, 0.99),
        trial(1, 0.1, 0.80),
        trial(2, 0.3, 0.90),
        trial(3, 0.4, 0.85),  # beaten by 2
        trial(4, 0.05, 1.0, feasible=False),
        trial(5, 0.01, math.nan),
        trial(6, 0.3, 0.90),  # as good as 2
    ]
    assert numbers(best(several(LOSS, ACCURACY), trials)) == ["1", "2", "6", "0"]


def test_tables_hold_every_trial_and_can_be_read_by_a_browser() -> None:
    trials = [
        trial(0, 0.1 + 0.2),
        trial(1, math.nan, attempts=2),
        trial(2, state="failed", reason="exit code 3"),
        trial(3, state="running", ended=None, run_id=None),
    ]
    rows = list(csv.DictReader(io.StringIO(trials_csv(SWEEP, trials).decode())))
    assert [row["state"] for row in rows] == ["finished", "finished", "failed", "running"]
    assert float(rows[0]["metrics.validation/loss"]) == 0.1 + 0.2
    assert float(rows[0]["params.lr"]) == trials[0].parameters["lr"]
    assert [row["best"] for row in rows] == ["True", "False", "False", "False"]
    assert rows[0]["seconds"] == "90.5"
    assert (rows[2]["reason"], rows[2]["metrics.validation/loss"]) == ("exit code 3", "")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    table = json.loads(trials_json(SWEEP, trials), parse_constant=refuse)
    assert table["columns"] == list(rows[0])
    assert all(len(row) == len(table["columns"]) for row in table["data"])
    assert table["data"][1][table["columns"].index("metrics.validation/loss")] == "nan"


def test_best_yaml_has_the_command_and_a_configuration_that_trains_the_same(tmp_path: Path) -> None:
    space = {"lr": Range(low=1e-6, high=1e-1, log=True), "seed": Range(low=0, high=9, integer=True)}
    sweep = replace(SWEEP, parameters=space, constants={"model.channels": 8})
    winner = trial(3, 0.25, parameters={"lr": 1e-05, "seed": 7})
    read = yaml.safe_load(best_yaml(sweep, [winner]))
    assert read["sweep"] == sweep.key
    (found,) = read["best"]
    assert found == {
        "trial": "3",
        "values": {"validation/loss": 0.25},
        "parameters": {"model.channels": 8, "lr": 1e-05, "seed": 7},
        "run_id": "run3",
        "command": "trainyard train digits --set epochs=2 --set model.channels=8 --set lr=1e-05 --set seed=7",
    }
    ((name, content),) = task_configs(sweep, [winner], {}).items()
    assert name == "best_config.yaml"
    (tmp_path / name).write_bytes(content)
    config = configure(DigitsConfig, [], file=tmp_path / name, environ={}, task="digits")
    assert (config.epochs, config.lr, config.seed, config.model.channels) == (2, 1e-05, 7, 8)
    assert task_configs(replace(sweep, program=("python", "my.py", "--lr", "{lr}")), [winner], {}) == {}


def test_what_may_change_between_two_starts_is_no_parameter() -> None:
    more = replace(SWEEP, trials=50, max_failed=9, heartbeat_s=1.0)
    assert more.key == SWEEP.key
    assert fixed_settings(more) == fixed_settings(SWEEP)
    assert fixed_settings(SWEEP)["parameters.lr.distribution"] == "log_uniform_values"
    assert sweep_file(more)["trials"] == 50


def test_importances_find_what_matters_and_need_enough_trials() -> None:
    def by_channels(number: int) -> TrialRecord:
        made = trial(number, 0.0)
        channels = made.parameters["model.channels"]
        assert isinstance(channels, int)
        return replace(made, values=(1 / channels + 0.001 * number,))

    trials = [by_channels(number) for number in range(20)]
    shares = importances(SWEEP, trials)
    assert next(iter(shares)) == "model.channels"
    assert shares["model.channels"] > 0.7
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(SWEEP, trials[:1]) == {}
    assert importances(SWEEP, [replace(each, values=(1.0,)) for each in trials]) == {}
    assert importances(SWEEP, [replace(each, values=(math.nan,)) for each in trials]) == {}


def test_pictures_are_of_the_promised_size_and_differ_by_what_happened() -> None:
    trials = [trial(number, 0.1 * (number + 1)) for number in range(6)]
    history = optimization_history_png(SWEEP, trials)
    assert history and size(history) == (900, 500)
    pruned = [*trials[:-1], replace(trials[-1], state="pruned")]
    infeasible = [*trials[:-1], replace(trials[-1], feasible=False)]
    failed = [*trials[:-1], trial(5, state="failed")]
    assert len({optimization_history_png(SWEEP, each) for each in (trials, pruned, infeasible, failed)}) == 4
    curves = learning_curves_png(SWEEP, trials)
    assert curves and size(curves) == (900, 600)
    assert curves != learning_curves_png(SWEEP, pruned)
    parallel = parallel_coordinates_png(SWEEP, trials, {})
    assert parallel and size(parallel)[1] == 600
    assert len({parallel_coordinates_png(SWEEP, each, {}) for each in (trials, pruned, infeasible)}) == 3
    for picture in (history, curves, parallel):
        assert len(np.unique(imread(io.BytesIO(picture))[..., :3].reshape(-1, 3), axis=0)) > 10, "nothing is drawn"


@pytest.mark.parametrize(("objectives", "width"), [((LOSS, ACCURACY), 750), ((LOSS, ACCURACY, SIZE), 2250)])
def test_objectives_are_shown_against_each_other(objectives: tuple[Objective, ...], width: int) -> None:
    values = [(0.1, 0.8, 300.0), (0.2, 0.9, 200.0), (0.3, 0.7, 100.0), (math.nan, 0.9, 1.0)]
    trials = [trial(number, *each[: len(objectives)]) for number, each in enumerate(values)]
    picture = pareto_front_png(several(*objectives), trials)
    assert picture and size(picture) == (width, 650)
    assert picture != pareto_front_png(several(*objectives), [replace(trials[0], feasible=False), *trials[1:]])
    assert pareto_front_png(SWEEP, [trial(0, 0.1)]) is None


class Kept:
    """A run that keeps what it is told."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.params: dict[str, str] = {}
        self.tags: dict[str, object] = {}
        self.log_bytes = self.files.__setitem__
        self.log_params = self.params.update
        self.set_tags = self.tags.update


def report(sweep: Sweep, trials: Sequence[TrialRecord], **known: str) -> Kept:
    kept = Kept()
    write_report(sweep, trials, kept, known)  # type: ignore[arg-type]  # as much of a run as it needs
    return kept


TABLES = {"trials.json", "trials.csv"}


@pytest.mark.parametrize(
    ("trials", "pictures"),
    [
        ([], set()),
        ([trial(0, state="failed", history={}), trial(1, state="failed", history={})], set()),
        ([trial(0, math.nan, history={1: math.nan, 2: math.nan})], set()),
        ([trial(0, state="pruned", values=(), history={1: 0.5})], {"optimization_history"}),
    ],
    ids=["no trials", "all failed", "a loss of NaN", "only one that was ended early"],
)
def test_a_sweep_without_a_best_trial_has_a_report(trials: Sequence[TrialRecord], pictures: set[str]) -> None:
    kept = report(SWEEP, trials)
    assert kept.files.keys() == TABLES | {f"plots/{name}.png" for name in pictures}
    assert kept.params == {}
    assert str(kept.tags["mlflow.note.content"]).endswith("None of them is usable.")


def test_a_single_trial_has_all_but_importances() -> None:
    sweep = replace(SWEEP, program=("python", "my.py"))
    kept = report(sweep, [trial(0, 0.5)])
    pictures = {f"plots/{name}.png" for name in ("optimization_history", "learning_curves", "parallel_coordinates")}
    assert kept.files.keys() == TABLES | {"best.yaml"} | pictures
    assert kept.params["best/batch_size"] == "64", "constants belong to it"
    assert kept.params["best/augment"] == "False"


def test_a_better_trial_of_a_sweep_that_went_on_is_not_told_under_the_old_ones_name() -> None:
    sweep = replace(SWEEP, program=("python", "my.py"))
    first = report(sweep, [trial(0, 0.5)])
    assert report(sweep, [trial(0, 0.5)], **first.params).params == first.params
    second = report(sweep, [trial(0, 0.5), trial(1, 0.1)], **first.params)
    assert second.params["best of 2/lr"] == str(trial(1).parameters["lr"])
    assert second.tags["trainyard.best_trial"] == "1"


def test_several_best_trials_are_told_each() -> None:
    sweep = replace(several(LOSS, ACCURACY), program=("python", "my.py", "--lr", "{lr}"))
    trials = [trial(0, 0.5, 0.9), trial(1, 0.1, 0.8), trial(2, 0.6, 0.7)]
    text = note(sweep, trials, best(sweep, trials))
    assert text.startswith("3 trials: 3 finished.")
    assert "2 trials that no other one beats" in text
    assert f"python my.py --lr {trials[1].parameters['lr']}" in text
    kept = report(sweep, trials)
    assert [each["trial"] for each in yaml.safe_load(kept.files["best.yaml"])["best"]] == ["1", "0"]
    assert "plots/pareto_front.png" in kept.files
    assert kept.params == {}, "which of them is best is for people to say"


def size(png: bytes) -> tuple[int, ...]:
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])
