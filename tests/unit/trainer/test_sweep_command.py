"""A trial's command line, and what is wrong with a program before any trial has begun."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from trainyard.errors import ConfigError
from trainyard.sweeps.command import check_program, trial_command
from trainyard.sweeps.file import read_sweep
from trainyard.sweeps.sweep import Choice, Objective, Parameter, ParameterValue, Range, Sweep

PARAMETERS: dict[str, ParameterValue] = {"lr": 1e-05, "model.channels": 8, "name": "a b", "flag": True, "off": False}
TRAIN = ("trainyard", "train", "digits")
EXAMPLES = Path(__file__).parents[3] / "trainer/examples/sweep"


def sweep(*program: str, constants: dict[str, ParameterValue] | None = None, **parameters: Parameter) -> Sweep:
    return Sweep(
        name="s",
        program=program,
        objectives=(Objective(name="loss"),),
        parameters={name.replace("__", "."): parameter for name, parameter in parameters.items()},
        constants=constants or {},
        trials=3,
    )


@pytest.mark.parametrize(
    ("program", "command"),
    [
        (["a.py", "--lr={lr}", "{lr}/{name}"], ["a.py", "--lr=1e-05", "1e-05/a b"]),
        (["a.py", "{flag}", "{off}", "{model.channels}"], ["a.py", "true", "false", "8"]),
        (["sh", "-c", "echo ${lr} $lr {'a': 1}"], ["sh", "-c", "echo ${lr} $lr {'a': 1}"]),
        (
            ["a.py", "${args}"],
            ["a.py", "--lr=1e-05", "--model.channels=8", "--name=a b", "--flag=True", "--off=False"],
        ),
        (
            ["a.py", "${args_no_equals}"],
            ["a.py", "--lr", "1e-05", "--model.channels", "8", "--name", "a b", "--flag", "True", "--off", "False"],
        ),
        (["a.py", "${args_no_hyphens}"], ["a.py", "lr=1e-05", "model.channels=8", "name=a b", "flag=True", "off=False"]),
        (["a.py", "${args_append_hydra}", "x"], ["a.py", "+lr=1e-05", "+model.channels=8", "+name=a b", "+flag=True", "+off=False", "x"]),
        (["a.py", "${args_override_hydra}"], ["a.py", "++lr=1e-05", "++model.channels=8", "++name=a b", "++flag=True", "++off=False"]),
        (["a.py", "${args_no_boolean_flags}"], ["a.py", "--lr=1e-05", "--model.channels=8", "--name=a b", "--flag"]),
        (["a.py", "${args_json}"], ["a.py", json.dumps(PARAMETERS)]),
        (["a.py"], ["a.py"]),
    ],
)  # fmt: skip
def test_a_program_gets_the_parameters_where_it_asks_for_them(program: list[str], command: list[str]) -> None:
    assert list(trial_command(sweep(*program), PARAMETERS)) == command


@pytest.mark.parametrize(
    "before", [[], ["trainyard", "launch", "--nproc-per-node", "2", "--"], ["/usr/bin/env", "python", "-m"], ["nice"]]
)
def test_a_ready_task_gets_what_is_left_over_as_settings(before: list[str]) -> None:
    program = [*before, *TRAIN, "--set", "tracking.variant=c{model.channels}", "--set", "seed=1"]
    assert list(trial_command(sweep(*program), {"lr": 0.5, "model.channels": 8, "epochs": 3})) == [
        *before,
        *TRAIN,
        *("--set", "tracking.variant=c8", "--set", "seed=1", "--set", "lr=0.5", "--set", "epochs=3"),
    ]


def problems(*program: str, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_program(sweep(*program, **more))
    return list(caught.value.problems)


LR = Range(low=0.001, high=0.1, log=True)


def test_a_program_that_fits_is_not_complained_of() -> None:
    check_program(
        sweep(*TRAIN, "--set", "seed=1", lr=LR, model__channels=Choice(values=(8, 16)), constants={"epochs": 2})
    )
    check_program(sweep(*TRAIN, "--set", "lr={rate}", rate=LR))
    check_program(sweep("python", "a.py", "{lr}", lr=LR, other=LR))


@pytest.mark.parametrize(
    ("program", "parameters", "said"),
    [
        (["python", "a.py", "{lrr}"], {"lr": LR}, "program: {lrr} is no parameter; did you mean lr?; parameters: lr"),
        (["no-such-program"], {"lr": LR}, "program: no-such-program is not found on PATH"),
        (["./no-such.sh"], {"lr": LR}, "program: ./no-such.sh cannot be run"),
        (["trainyard", "train", "digit"], {"lr": LR}, "program: there is no task digit; did you mean digits?"),
        (TRAIN, {"lrr": LR}, "parameters.lrr: digits has no key lrr; did you mean lr?"),
        (TRAIN, {"lr": Range(low=0.1, high=2)}, "parameters.lr=2: digits says: must be a number, above 0 and at most 1"),
        (TRAIN, {"epochs": Range(low=0, high=2, integer=True)}, "parameters.epochs=0: digits says: must be a whole number, 1 to 10000"),
        (TRAIN, {"batch_size": Range(low=8.0, high=64.5)}, "parameters.batch_size=8.0: digits says: must be a whole number"),
        (TRAIN, {"device": Choice(values=("cpu", "tpu"))}, "parameters.device=tpu: digits says: must be auto or cpu or cuda"),
        ([*TRAIN, "--set", "lr=0.1"], {"lr": LR}, "parameters.lr: the program says --set lr as well; keep one of them"),
        ([*TRAIN, "--set=lr=0.1"], {"lr": LR}, "parameters.lr: the program says --set lr as well; keep one of them"),
        ([*TRAIN, "--set", "seed=1", "--set=epochs=0"], {"lr": LR}, "--set epochs=0: digits says: must be a whole number"),
        ([*TRAIN, "--set", "epochs=none"], {"lr": LR}, "--set epochs=none: digits says: must be a whole number"),
        ([*TRAIN, "${args}"], {"lr": LR}, "program: ${args} is not for trainyard train, which gets the parameters as --set"),
    ],
)  # fmt: skip
def test_a_program_that_no_trial_could_run_is_refused(
    program: list[str], parameters: dict[str, Parameter], said: str
) -> None:
    assert any(problem.startswith(said) for problem in problems(*program, **parameters))


def test_a_constant_is_checked_as_well() -> None:
    assert problems(*TRAIN, constants={"epochs": 0}, lr=LR)[0].startswith("parameters.epochs=0: digits says: ")


def test_a_script_beside_the_sweep_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "a.sh"
    script.touch()
    assert problems("./a.sh", lr=LR) == ["program: ./a.sh cannot be run"]
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    check_program(sweep("./a.sh", lr=LR))


@pytest.mark.parametrize("name", ["digits", "softmax"])
def test_the_examples_fit_their_programs(name: str) -> None:
    check_program(read_sweep(EXAMPLES / f"{name}.yaml"))
