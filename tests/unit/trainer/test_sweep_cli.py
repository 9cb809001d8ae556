"""`trainyard sweep`: what is typed, what is refused, and what is told of a sweep."""

import csv
import io
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from trainyard.cli import main
from trainyard.sweeps.file import read_sweep
from trainyard.sweeps.records import TrialRecord

from tests.unit.trainer.conftest import Ended, Laptop

EXAMPLES = Path(__file__).parents[3] / "trainer/examples/sweep"
CONTENT: dict[str, Any] = {
    "name": "s",
    "metric": {"name": "loss"},
    "parameters": {"lr": {"min": 0.1, "max": 0.5}, "flag": {"values": [True, False]}, "epochs": {"value": 3}},
    "program": ["python", "my train.py", "--lr={lr}"],
    "trials": 6,
}
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRIALS = [
    TrialRecord(number="0", state="finished", parameters={"lr": 0.25, "flag": True}, values=(0.5,), began=BEGAN, ended=BEGAN + timedelta(seconds=3725)),
    TrialRecord(number="1", state="finished", parameters={"lr": 0.125, "flag": False}, values=(0.25,), attempts=2, run_id="abc"),
    TrialRecord(number="2", state="pruned", parameters={"lr": 0.5, "flag": False}, values=(0.75,)),
    TrialRecord(number="3", state="failed", parameters={"lr": 0.5, "flag": True}, reason="exit code 3"),
    TrialRecord(number="4", state="running", parameters={"lr": 0.5, "flag": True}),
    TrialRecord(number="5", state="waiting", parameters={"lr": 0.5, "flag": True}),
]  # fmt: skip


class Backend:
    """Stands where a backend's worker is, and remembers what it was asked for."""

    def __init__(self, trials: Sequence[TrialRecord]) -> None:
        self.known = trials
        self.calls: list[tuple[Any, Mapping[str, Any]]] = []

    def work(self, sweep: Any, *_: Any, **options: Any) -> int:
        self.calls.append((sweep and sweep.key, {name: options[name] for name in options if name != "say"}))
        return 75

    def run_trial(self, arguments: str, *_: Any) -> int:
        self.calls.append((arguments, {}))
        return 7

    def trials(self, *_: Any) -> Sequence[TrialRecord]:
        return self.known


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACKING", "json")
    Path("s.yaml").write_text(yaml.safe_dump(CONTENT, sort_keys=False))
    return "s.yaml"


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, trials: Sequence[TrialRecord] = TRIALS) -> Backend:
    backend = Backend(trials)
    module = SimpleNamespace(work=backend.work, run_trial=backend.run_trial, trials=backend.trials)
    monkeypatch.setitem(sys.modules, f"trainyard.sweeps.{name}.worker", module)
    return backend


def test_the_files_backend_does_the_work(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    optuna, wandb = stand_in(monkeypatch, "optuna"), stand_in(monkeypatch, "wandb")
    assert main(["sweep", "run", file]) == 75
    assert main(["sweep", "run", file, "--trials-per-worker", "2"]) == 75
    assert main(["sweep", "run", file, "--backend", "wandb"]) == 75
    assert main(["sweep", "run", "--join", "team/digits/a1b2c3d4"]) == 75
    assert main(["sweep", "trial", '{"lr": 1}']) == 7
    key, other = read_sweep(Path(file)).key, read_sweep(Path(file), backend="wandb").key
    assert optuna.calls == [(key, {"limit": None}), (key, {"limit": 2})]
    assert wandb.calls == [
        (other, {"join": None, "limit": None}),
        (None, {"join": "team/digits/a1b2c3d4", "limit": None}),
        ('{"lr": 1}', {}),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "which sweep? for example: trainyard sweep run sweep.yaml"),
        (["run", "none.yaml"], "none.yaml: cannot be read: No such file or directory"),
        (["run", "s.yaml", "--join", "a/b/c"], "--join=a/b/c: that sweep has a search of its own at W&B"),
        (["run", "--join", "a1b2c3d4"], "--join=a1b2c3d4: must be ENTITY/PROJECT/ID"),
        (["run", "s.yaml", "--trials-per-worker", "0"], "--trials-per-worker=0: must be 1 or more"),
        (["run", "s.yaml", "--backend", "ray"], "invalid choice: 'ray'"),
        (["status"], "the following arguments are required: FILE"),
        ([], "the following arguments are required: run|status|best|export"),
    ],
)
def test_what_is_typed_wrong_ends_with_42(
    file: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert file
    assert main(["sweep", *arguments]) == 42
    assert said in capsys.readouterr().err


def test_a_program_that_no_trial_could_run_ends_with_42_before_there_is_a_trial(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optuna = stand_in(monkeypatch, "optuna")
    Path(file).write_text(yaml.safe_dump({**CONTENT, "program": "no-such-program {rate}"}))
    assert main(["sweep", "run", file]) == 42
    error = capsys.readouterr().err
    assert "program: {rate} is no parameter" in error
    assert "program: no-such-program is not found on PATH" in error
    assert optuna.calls == []


def test_a_library_that_is_missing_is_named_with_what_installs_it(file: str, laptop: Laptop) -> None:
    assert laptop.folder == Path.cwd()
    without = "import sys; sys.modules['optuna'] = None; from trainyard.cli import main; sys.exit(main(sys.argv[1:]))"
    ended = laptop.wait(laptop.python("-c", without, "sweep", "status", file))
    assert ended.code == 42
    assert "backend optuna: optuna" in ended.stderr
    assert "is not installed: pip install './trainer[sweep]'" in ended.stderr


def test_status_shows_the_trials_and_what_is_missing(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "optuna")
    assert main(["sweep", "status", file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{read_sweep(Path(file)).key}: optuna, tpe, 6 trials",
        "TRIAL  STATE     loss  ATTEMPTS  TIME     RUN",
        "0      finished  0.5   1         1:02:05  -",
        "1      finished  0.25  2         -        abc",
        "2      pruned    0.75  1         -        -",
        "3      failed    -     1         -        -    exit code 3",
        "4      running   -     1         -        -",
        "5      waiting   -     1         -        -",
        "3 of 6 trials are done (2 finished, 1 pruned, 1 running, 1 waiting, 1 failed); 3 missing, 1 of them to be begun",
        "best: trial 1, loss 0.25, run abc",
    ]


def test_status_of_a_sweep_that_has_not_begun(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "optuna", [])
    assert main(["sweep", "status", file]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "0 of 6 trials are done (none has begun); 6 missing, 6 of them to be begun"
    ]


def test_a_trial_that_breaks_a_constraint_is_said_to_and_is_not_the_best(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "optuna", [TRIALS[0], replace(TRIALS[1], feasible=False)])
    assert main(["sweep", "status", file]) == 0
    told = capsys.readouterr().out
    assert "abc  breaks a constraint" in told
    assert "best: trial 0" in told


def test_best_is_parameters_and_the_command_that_trains_with_them(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "optuna")
    assert main(["sweep", "best", file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "trial 1, loss 0.25, run abc",
        "  epochs  3",
        "  lr      0.125",
        "  flag    false",
        "train with them:",
        "  python 'my train.py' --lr=0.125",
    ]


def test_best_of_several_objectives_is_all_that_no_other_beats(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metric = [{"name": "loss"}, {"name": "accuracy", "goal": "maximize"}]
    Path(file).write_text(yaml.safe_dump({**CONTENT, "metric": metric}))
    trials = [replace(TRIALS[0], number=str(n), values=pair) for n, pair in enumerate([(0.1, 0.5), (0.2, 0.9), (0.3, 0.8)])]  # fmt: skip
    stand_in(monkeypatch, "optuna", trials)
    assert main(["sweep", "best", file]) == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("trial")] == [
        "trial 0, loss 0.1, accuracy 0.5",
        "trial 1, loss 0.2, accuracy 0.9",
    ]


def test_there_is_no_best_before_a_trial_has_finished(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "optuna", TRIALS[2:])
    assert main(["sweep", "best", file]) == 1
    assert "no trial has finished yet" in capsys.readouterr().err


def test_export_is_a_table_of_all_trials(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "optuna")
    assert main(["sweep", "export", file]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["trial"], row["state"], row["metrics.loss"], row["params.lr"]) for row in rows] == [
        ("0", "finished", "0.5", "0.25"),
        ("1", "finished", "0.25", "0.125"),
        ("2", "pruned", "0.75", "0.5"),
        ("3", "failed", "", "0.5"),
        ("4", "running", "", "0.5"),
        ("5", "waiting", "", "0.5"),
    ]
    assert main(["sweep", "export", file, "--output", "t.csv"]) == 0
    assert list(csv.DictReader(io.StringIO(Path("t.csv").read_text()))) == rows
    assert main(["sweep", "export", file, "--output", "no/t.csv"]) == 42


def test_mlflow_that_is_away_hides_nothing_of_what_optuna_knows(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "optuna")
    monkeypatch.setenv("TRAINYARD_TRACKING", "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["sweep", "status", file]) == 0
    told = capsys.readouterr()
    assert "which runs in MLflow the trials have is not known: " in told.err
    assert "best: trial 1" in told.out


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Laptop, Ended]:
    """The example of a program of one's own with four short trials, run to its end on a laptop."""
    laptop = Laptop(tmp_path_factory.mktemp("laptop"))
    shutil.copy(EXAMPLES / "softmax.py", laptop.folder)
    text = (EXAMPLES / "softmax.yaml").read_text()
    shorter = text.replace("trials: 12", "trials: 3").replace("value: 30", "value: 4")
    (laptop.folder / "softmax.yaml").write_text(shorter)
    return laptop, laptop.command("sweep", "run", "softmax.yaml")


def test_the_example_runs_to_its_end(swept: tuple[Laptop, Ended]) -> None:
    laptop, ended = swept
    assert ended.code == 0, ended.stderr
    status = laptop.command("sweep", "status", "softmax.yaml")
    assert "3 of 3 trials are done (3 finished); none is missing" in status.stdout
    runs = {run.info.run_id for run in laptop.runs("softmax")}
    table = laptop.command("sweep", "export", "softmax.yaml").stdout
    assert len(runs) == 4, "three trials and their parent"
    assert {row["run_id"] for row in csv.DictReader(io.StringIO(table))} < runs


def test_what_best_prints_trains_with_the_best_parameters(swept: tuple[Laptop, Ended]) -> None:
    laptop, _ = swept
    best = laptop.command("sweep", "best", "softmax.yaml")
    assert best.code == 0, best.stderr
    python, *words = shlex.split(best.stdout.splitlines()[-1])
    assert python == "python"
    again = laptop.wait(laptop.python(*words, TRAINYARD_TRACKING="json"))
    assert again.code == 0, again.stderr
    last = max(laptop.json_run("softmax")["points"])
    assert f"validation/accuracy {last[2]:.6g}, run " in best.stdout.splitlines()[0]
