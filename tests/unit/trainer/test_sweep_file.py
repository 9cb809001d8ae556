"""The sweep file: what is understood, W&B's own spellings among it, and what is refused with which words."""

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from trainyard.errors import ConfigError
from trainyard.sweeps.file import read_sweep
from trainyard.sweeps.grid import grid, wanted
from trainyard.sweeps.report.configuration import sweep_file
from trainyard.sweeps.sweep import Backend, Choice, Constraint, EarlyStop, Objective, Range, Sweep
from trainyard.sweeps.wandb_file import wandb_config

EXAMPLES = Path(__file__).parents[3] / "trainer/examples/sweep"
SMALLEST: dict[str, Any] = {
    "name": "s",
    "metric": {"name": "loss"},
    "parameters": {"lr": {"min": 0.1, "max": 0.5}},
    "program": "python train.py --lr {lr}",
    "trials": 4,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that messages name the file without it."""
    monkeypatch.chdir(tmp_path)


def of_text(text: str, backend: Backend | None = None) -> Sweep:
    Path("s.yaml").write_text(textwrap.dedent(text))
    return read_sweep(Path("s.yaml"), backend=backend)


def of(chosen: Backend | None = None, /, **changes: Any) -> Sweep:
    """The smallest file with some keys changed; None leaves one out."""
    content = {key: value for key, value in {**SMALLEST, **changes}.items() if value is not None}
    return of_text(yaml.safe_dump(content, sort_keys=False), chosen)


def problems(chosen: Backend | None = None, /, **changes: Any) -> list[str]:
    """What is said of it, without file and line."""
    with pytest.raises(ConfigError) as caught:
        of(chosen, **changes)
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


def parameter(**keys: Any) -> Any:
    """The parameter `x` as it is understood."""
    return of(parameters={"x": keys, "lr": {"min": 0.1, "max": 0.5}}).parameters["x"]


def parameter_problems(**keys: Any) -> list[str]:
    return problems(parameters={"x": keys, "lr": {"min": 0.1, "max": 0.5}})


def test_every_key_is_understood() -> None:
    sweep = of_text("""
        name: digits-lr
        backend: optuna
        method: bayes
        metric: {name: validation/loss, goal: minimize}
        parameters:
          lr: {distribution: log_uniform_values, min: 1e-4, max: 0.1}
          model.channels: {values: [8, 16, 32]}
          model: {parameters: {dropout: {min: 0.0, max: 0.5}}}
          batch_size: {distribution: q_uniform, min: 16, max: 128, q: 16}
          layers: {min: 1, max: 4}
          epochs: {value: 10}
        early_terminate: {type: hyperband, min_iter: 3, max_iter: 27, eta: 3}
        constraints: [{metric: model/parameters, max: 100000}]
        program: [trainyard, train, digits]
        trials: 20
        experiment: digits
        seed: 1
        max_failed: 2
        heartbeat_s: 5
        entity: my-team
        project: my-project
        description: for people
    """)
    assert sweep == Sweep(
        name="digits-lr",
        backend="optuna",
        method="bayes",
        objectives=(Objective(name="validation/loss", goal="minimize"),),
        parameters={
            "lr": Range(low=1e-4, high=0.1, log=True),
            "model.channels": Choice(values=(8, 16, 32)),
            "model.dropout": Range(low=0.0, high=0.5),
            "batch_size": Range(low=16, high=128, integer=True, step=16),
            "layers": Range(low=1, high=4, integer=True),
        },
        constants={"epochs": 10},
        early_stop=EarlyStop(type="hyperband", min_steps=3, max_steps=27, reduction=3),
        constraints=(Constraint(metric="model/parameters", max=100000),),
        program=("trainyard", "train", "digits"),
        trials=20,
        experiment="digits",
        seed=1,
        max_failed=2,
        heartbeat_s=5.0,
        wandb_entity="my-team",
        wandb_project="my-project",
    )


def test_what_is_left_out_has_a_default() -> None:
    sweep = of()
    assert (sweep.backend, sweep.method, sweep.experiment, sweep.seed) == ("optuna", "tpe", "default", 0)
    assert (sweep.max_failed, sweep.heartbeat_s, sweep.early_stop) == (3, 10.0, None)


def test_another_backend_may_be_chosen_than_the_files() -> None:
    assert of("wandb", backend="optuna", method="bayes").backend == "wandb"
    assert problems("wandb", method="tpe") == ["method=tpe: wandb has bayes, random, grid; tpe needs backend: optuna"]


@pytest.mark.parametrize(
    ("keys", "meant"),
    [
        ({"min": 0, "max": 1}, Range(low=0, high=1, integer=True)),
        ({"min": 0, "max": 1.0}, Range(low=0.0, high=1.0)),
        ({"distribution": "uniform", "min": 0, "max": 1}, Range(low=0.0, high=1.0)),
        ({"distribution": "int_uniform", "min": -2, "max": 7}, Range(low=-2, high=7, integer=True)),
        ({"distribution": "log_uniform_values", "min": 1, "max": 100}, Range(low=1.0, high=100.0, log=True)),
        ({"distribution": "q_uniform", "min": 10, "max": 130, "q": 16}, Range(low=16, high=128, integer=True, step=16)),
        ({"distribution": "q_uniform", "min": 1, "max": 4}, Range(low=1, high=4, integer=True)),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.7, "q": 0.1}, Range(low=0.1, high=0.7, step=0.1)),
        ({"distribution": "q_log_uniform_values", "min": 2, "max": 64, "q": 1}, Range(low=2, high=64, integer=True, log=True)),
        ({"distribution": "categorical", "values": ["a", 1, 1.0, True]}, Choice(values=("a", 1, 1.0, True))),
    ],
)  # fmt: skip
def test_a_parameter_means_what_it_means_to_wandb(keys: dict[str, Any], meant: Range | Choice) -> None:
    found = parameter(**keys)
    assert found == meant
    assert repr(found) == repr(meant), "1 and 1.0 are not the same to a program"


@pytest.mark.parametrize(
    "one", [{"value": 3}, {"values": [3]}, {"min": 3, "max": 3}, {"distribution": "constant", "value": 3}]
)
def test_one_value_is_not_searched(one: dict[str, Any]) -> None:
    sweep = of(parameters={"x": one, "lr": {"min": 0.1, "max": 0.5}})
    assert (dict(sweep.constants), list(sweep.parameters)) == ({"x": 3}, ["lr"])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"min": 2, "max": 1}, "x.min=2: must be at most max, which is 1"),
        ({"min": 2}, "x.max: is missing: a number"),
        ({"min": "a", "max": 1}, "x.min=a: must be a number"),
        ({"min": True, "max": 1}, "x.min=true: must be a number"),
        ({"min": float("nan"), "max": 1.0}, "x.min=.nan: must be a number"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "x.min=0: must be above 0, since the range is logarithmic"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 1}, "x.min=0.5: must be a whole number"),
        ({"distribution": "q_uniform", "min": 1, "max": 3, "q": 0}, "x.q=0: must be a number above 0"),
        ({"distribution": "q_uniform", "min": 17, "max": 30, "q": 16}, "there is no multiple of q=16 from min to max"),
        ({"distribution": "unifrm", "min": 1, "max": 3}, "did you mean uniform?"),
        ({"distribution": "log_uniform", "min": -9, "max": -1}, "write log_uniform_values, with the values themselves"),
        ({"distribution": "normal", "mu": 0}, "has no bounds that both backends know"),
        ({"distribution": "categorical"}, "x.values: is missing: a list of values"),
        ({"min": 1, "max": 2, "q": 1}, "a parameter that is int_uniform has no key q"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "Optuna has no probabilities of values; leave them out"),
        ({"values": []}, "x.values=[]: must be a list of one value or more"),
        ({"values": 3}, "x.values=3: must be a list of one value or more"),
        ({"values": [1, 2, 1]}, "x.values[2]=1: is there twice"),
        ({"values": [1, None]}, "x.values[1]=null: must be a text, a number, true or false"),
        ({"values": [[1], 2]}, "x.values[0]: must be a text, a number, true or false"),
        ({}, "says no value; it must be such as {values: [1, 2]}"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(keys: dict[str, Any], said: str) -> None:
    (problem,) = parameter_problems(**keys)
    assert problem.startswith("parameters.x")
    assert said in problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": None}, "name: is missing"),
        ({"name": "Digits LR"}, "name=Digits LR: must be 1 to 40 lower-case letters"),
        ({"name": "a" * 41}, "must be 1 to 40"),
        ({"backend": "optna"}, "backend=optna: must be optuna or wandb; did you mean optuna?"),
        ({"method": "baies"}, "did you mean bayes?"),
        ({"method": "nsga2", "backend": "wandb"}, "wandb has bayes, random, grid; nsga2 needs backend: optuna"),
        ({"metric": None}, "metric: is missing"),
        ({"metric": []}, "metric=[]: must be one metric or more"),
        ({"metric": "loss"}, "metric=loss: must be a mapping, such as {name: validation/loss, goal: minimize}"),
        ({"metric": {"goal": "minimize"}}, "metric.name: is missing"),
        ({"metric": {"name": "a", "goal": "min"}}, "metric.goal=min: must be minimize or maximize; did you mean minimize?"),
        ({"metric": {"name": "a", "target": 1}}, "metric.target=1: a sweep ends when it has its trials"),
        ({"metric": [{"name": "a"}, {"name": "a"}]}, "a is there twice"),
        ({"metric": [{"name": "a"}, {"name": "b"}], "backend": "wandb", "method": "bayes"}, "W&B has one metric"),
        ({"metric": [{"name": "a"}, {"name": "b"}], "early_terminate": {"type": "median"}}, "cannot be compared half-way"),
        ({"parameters": None}, "parameters: is missing"),
        ({"parameters": {"lr": {"value": 1}}}, "nothing is searched: each parameter has one value"),
        ({"parameters": {"lr": 0.1}}, "parameters.lr=0.1: must be a mapping, such as"),
        ({"parameters": {"lr": None}}, "parameters.lr=null: must be a mapping, such as"),
        ({"parameters": {"1r": {"min": 1, "max": 2}}}, "1r must begin with a letter"),
        ({"parameters": {"a.b": {"min": 1, "max": 2}, "a": {"parameters": {"b": {"value": 1}}}}}, "a.b is said already at s.yaml:"),
        ({"method": "grid"}, "a grid has values that can be counted: give values, or q_uniform with q"),
        ({"method": "cmaes", "metric": [{"name": "a"}, {"name": "b"}], "parameters": {"x": {"min": 1, "max": 2}, "y": {"min": 1, "max": 2}}}, "cmaes has one metric"),
        ({"method": "grid", "backend": "wandb", "parameters": {"x": {"distribution": "q_log_uniform_values", "min": 1, "max": 8}}}, "W&B's grid has no logarithmic range: give values"),
        ({"method": "cmaes"}, "method=cmaes: needs two parameters or more"),
        ({"method": "cmaes", "parameters": {"a": {"min": 1, "max": 2}, "b": {"values": [1, 2]}}}, "cmaes searches numbers between two bounds"),
        ({"parameters": {"x": {"distribution": "q_log_uniform_values", "min": 8, "max": 64, "q": 8}}}, "Optuna has no logarithmic range with steps"),
        ({"trials": None}, "trials: is missing: how many there are to be; only a grid has an end of its own, tpe has none"),
        ({"trials": 0}, "trials=0: must be a whole number, 1 or more"),
        ({"trials": 1.5}, "trials=1.5: must be a whole number, 1 or more"),
        ({"run_cap": 3}, "run_cap=3: is W&B's word for trials"),
        ({"seed": -1}, "seed=-1: must be a whole number, 0 to 4294967295"),
        ({"max_failed": 0}, "max_failed=0: must be a whole number, 1 or more"),
        ({"heartbeat_s": 0}, "heartbeat_s=0: must be a number above 0"),
        ({"program": None}, "program: is missing: what a trial runs"),
        ({"program": []}, "program=[]: must be words"),
        ({"program": "python 'train.py"}, "cannot be split into words: No closing quotation"),
        ({"program": ["python", ["train.py"]]}, "must be a word"),
        ({"program": ["python", "a.py", "${args_jsn}"]}, "there is no macro ${args_jsn}; did you mean ${args_json}?"),
        ({"program": ["python", "a.py", "${args_json_file}"]}, "there is no such file; take ${args_json}"),
        ({"program": ["python", "a.py"], "command": ["${program}"]}, "stands beside a program that has arguments of its own"),
        ({"program": None, "command": ["python", "${program}"]}, "${program} stands for the key program, which is missing"),
        ({"early_terminate": {"type": "hyperbnd", "min_iter": 1}}, "did you mean hyperband?"),
        ({"early_terminate": {"min_iter": 1}}, "early_terminate.type: is missing: hyperband or asha or median"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate.min_iter: is missing"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 9, "max_iter": 3}}, "min_iter=9: must be at most max_iter, which is 3"),
        ({"early_terminate": {"type": "hyperband", "s": 2}}, "s=2: counts rounds back from max_iter, which is missing"),
        ({"early_terminate": {"type": "hyperband", "s": 2, "max_iter": 9, "min_iter": 1}}, "s=2: says with max_iter what min_iter says already"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": True}}, "strict=true: is W&B's alone; leave it out"),
        ({"early_terminate": {"type": "median", "eta": 3}}, "early_terminate of type median has no key eta"),
        ({"early_terminate": {"type": "asha", "min_iter": 1}, "backend": "wandb", "method": "bayes"}, "wandb has hyperband; asha needs backend: optuna"),
        ({"constraints": [{"metric": "m"}]}, "constraints[0].max: is missing: the bound; or min"),
        ({"constraints": [{"max": 1}]}, "constraints[0].metric: is missing"),
        ({"constraints": {"metric": "m", "max": 1}}, "must be a list, such as"),
        ({"constraints": [{"metric": "m", "max": 1}], "backend": "wandb", "method": "bayes"}, "W&B has no constraints"),
        ({"scheduler": {"num_workers": 8}}, "W&B Launch is not supported"),
        ({"trails": 3}, "trails=3: a sweep has no key trails; did you mean trials?"),
        ({"xyzzy": 3}, "a sweep has no key xyzzy; keys: description, name, backend, method,"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_with_its_value_and_what_would_be_right(changes: dict[str, Any], said: str) -> None:
    (problem,) = problems(**changes)
    assert said in problem


def test_all_problems_are_told_at_once_each_with_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        of_text("""\
            name: s
            method: bayes
            metric: {name: loss, gaol: minimize}
            parameters:
              lr: {min: 2, max: 1}
              lr: {min: 0.1, max: 1}
            program: python train.py
            trials: many
        """)
    assert sorted(caught.value.problems) == [
        "s.yaml:3: metric.gaol=minimize: a metric has no key gaol; did you mean goal?",
        "s.yaml:6: parameters.lr={min: 0.1, max: 1}: is set twice; keep one of them",
        "s.yaml:8: trials=many: must be a whole number, 1 or more",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "s.yaml: must be a mapping"),
        (b"- a", "s.yaml: must be a mapping"),
        (b"a: [1", "s.yaml:1: not YAML: "),
        (b"a: \xff", "s.yaml: byte 3 is not UTF-8"),
        (None, "s.yaml: cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_no_sweep_file_is_refused(content: bytes | None, said: str) -> None:
    if content is not None:
        Path("s.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_sweep(Path("s.yaml"))
    assert str(caught.value).startswith(said)


def test_numbers_as_helm_writes_them_are_numbers() -> None:
    sweep = of_text("""
        name: s
        metric: {name: loss}
        parameters: {lr: {distribution: log_uniform_values, min: 1e-05, max: 1e+0}, d: {values: [1e-3, .5, -2E1, 1e, e1]}}
        program: python train.py --lr {lr}
        trials: 4
    """)
    assert sweep.parameters["lr"] == Range(low=1e-5, high=1.0, log=True)
    assert sweep.parameters["d"] == Choice(values=(0.001, 0.5, -20.0, "1e", "e1"))


def test_a_grid_has_all_its_cells_or_as_many_as_one_wants() -> None:
    parameters = {
        "a": {"values": ["x", "y", "z"]},
        "b": {"min": 2, "max": 5},
        "c": {"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1},
    }
    whole = of(method="grid", parameters=parameters, trials=None)
    assert grid(whole) == {"a": ("x", "y", "z"), "b": (2, 3, 4, 5), "c": (0.1, 0.2, 0.3)}
    assert wanted(whole) == 36
    assert wanted(replace(whole, trials=7)) == 7
    assert wanted(replace(whole, trials=100)) == 36
    assert wanted(of(trials=7)) == 7


PYTHON = ("/usr/bin/env", "python", "train.py")
# W&B's own examples (its documentation and wandb/examples), with the keys that we ask for besides.
WANDB = {
    "program": ("program: train.py", (*PYTHON, "${args}")),
    "no script": ("program: train", ("train",)),
    "hydra": (
        "program: main.py\ncommand: ['${env}', '${interpreter}', '${program}', '${args_no_hyphens}']",
        ("/usr/bin/env", "python", "main.py", "${args_no_hyphens}"),
    ),
    "python3": (
        "program: train.py\ncommand:\n- ${env}\n- python3\n- ${program}\n- ${args}",
        ("/usr/bin/env", "python3", "train.py", "${args}"),
    ),
    "more arguments": (
        'program: train.py\ncommand:\n- ${env}\n- ${interpreter}\n- ${program}\n- "--config"\n- "a.json"\n- ${args}',
        (*PYTHON, "--config", "a.json", "${args}"),
    ),
    "none": ("program: train.py\ncommand:\n- ${env}\n- ${interpreter}\n- ${program}", PYTHON),
    "no program": (
        'command:\n- python\n- train.py\n- "--batch_size=8"\n- ${args_no_boolean_flags}',
        ("python", "train.py", "--batch_size=8", "${args_no_boolean_flags}"),
    ),
}


@pytest.mark.parametrize(("text", "program"), WANDB.values(), ids=WANDB)
def test_commands_of_wandbs_examples_are_understood(text: str, program: tuple[str, ...]) -> None:
    rest = {key: value for key, value in SMALLEST.items() if key != "program"}
    assert of_text(f"{yaml.safe_dump(rest)}{text}\n").program == program


def test_parameters_of_wandbs_examples_are_understood() -> None:
    hydra = """
        optimizer.config.learning_rate: {min: !!float 1e-5, max: 0.1}
        experiment: {values: [expt001, expt002]}
        optimizer: {values: [sgd, adagrad, adam]}
        momentum: {distribution: uniform, max: 0.6, min: 0}
        batch_size: {distribution: int_uniform, max: 128, min: 32}
        epochs: {distribution: constant, value: 200}
        nested:
          parameters:
            deep: {parameters: {decay: {values: [1e-5, 1e-6]}}}
    """
    text = yaml.safe_dump({key: value for key, value in SMALLEST.items() if key != "parameters"})
    sweep = of_text(f"{text}parameters:\n{textwrap.indent(textwrap.dedent(hydra), '  ')}")
    assert sweep.parameters == {
        "optimizer.config.learning_rate": Range(low=1e-5, high=0.1),
        "experiment": Choice(values=("expt001", "expt002")),
        "optimizer": Choice(values=("sgd", "adagrad", "adam")),
        "momentum": Range(low=0.0, high=0.6),
        "batch_size": Range(low=32, high=128, integer=True),
        "nested.deep.decay": Choice(values=(1e-5, 1e-6)),
    }
    assert sweep.constants == {"epochs": 200}


@pytest.mark.parametrize(
    ("keys", "stop"),
    [
        ({"type": "hyperband", "min_iter": 3}, EarlyStop(type="hyperband", min_steps=3)),
        (
            {"type": "hyperband", "s": 2, "eta": 3, "max_iter": 27},
            EarlyStop(type="hyperband", min_steps=3, max_steps=27),
        ),
        (
            {"type": "asha", "min_iter": 2, "max_iter": 16, "eta": 2},
            EarlyStop(type="asha", min_steps=2, max_steps=16, reduction=2),
        ),
        ({"type": "median", "min_iter": 4, "warmup_trials": 2}, EarlyStop(type="median", min_steps=4, warmup_trials=2)),
        ({"type": "median"}, EarlyStop(type="median")),
    ],
)
def test_an_early_end_is_understood(keys: dict[str, Any], stop: EarlyStop) -> None:
    assert of(early_terminate=keys).early_stop == stop


def test_wandb_is_told_the_same_search() -> None:
    sweep = of(
        "wandb",
        name="s",
        method="bayes",
        metric={"name": "loss", "goal": "maximize"},
        parameters={
            "a": {"min": 0.0, "max": 1.0},
            "b": {"min": 1, "max": 9},
            "c": {"distribution": "log_uniform_values", "min": 0.1, "max": 1},
            "d": {"distribution": "q_uniform", "min": 10, "max": 40, "q": 8},
            "e": {"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 1},
            "f.g": {"values": ["x", True]},
            "h": {"value": 3},
        },
        early_terminate={"type": "hyperband", "max_iter": 27, "s": 2},
        trials=6,
    )
    assert wandb_config(sweep) == {
        "name": "s",
        "description": f"Trainyard {sweep.key}",
        "method": "bayes",
        "metric": {"name": "loss", "goal": "maximize"},
        "parameters": {
            "a": {"distribution": "uniform", "min": 0.0, "max": 1.0},
            "b": {"distribution": "int_uniform", "min": 1, "max": 9},
            "c": {"distribution": "log_uniform_values", "min": 0.1, "max": 1.0},
            "d": {"distribution": "q_uniform", "min": 16, "max": 40, "q": 8},
            "e": {"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 1},
            "f.g": {"values": ["x", True]},
            "h": {"value": 3},
        },
        "program": "python train.py --lr '{lr}'",
        "command": ["trainyard", "sweep", "trial", "${args_json}"],
        "run_cap": 6,
        "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3},
    }


@pytest.mark.parametrize("early", [None, {"type": "hyperband", "min_iter": 3}, {"type": "median", "warmup_trials": 2}])
def test_the_file_in_the_parent_run_is_the_same_sweep(early: dict[str, Any] | None) -> None:
    sweep = of(
        early_terminate=early,
        parameters={
            "a": {"min": 0.1, "max": 0.5},
            "b": {"distribution": "q_log_uniform_values", "min": 2, "max": 64, "q": 1},
            "c": {"distribution": "q_uniform", "min": 0.1, "max": 0.7, "q": 0.1},
            "d": {"values": ["x", 1, True]},
            "e": {"value": 1e-7},
        },
        constraints=[{"metric": "size", "max": 10}],
    )
    assert of_text(yaml.safe_dump(sweep_file(sweep))) == sweep


@pytest.mark.parametrize("backend", ["optuna", "wandb"])
def test_the_example_is_for_both_backends(backend: Backend) -> None:
    assert read_sweep(EXAMPLES / "digits.yaml", backend=backend).backend == backend
