"""From a sweep file to a `Sweep`, with every mistake in one error."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, cast, get_args

from trainyard.errors import ConfigError
from trainyard.sweeps.document import Entry, Section, items_of, read_document
from trainyard.sweeps.parameters import Parameters, read_parameters
from trainyard.sweeps.program import read_program
from trainyard.sweeps.sweep import (
    METHODS,
    Backend,
    Choice,
    Constraint,
    EarlyStop,
    Goal,
    Method,
    Objective,
    Range,
    Sweep,
)

_OF_WANDB: Final[Mapping[str, str]] = {
    "controller": "the server proposes the parameters; leave it out",
    "scheduler": "W&B Launch is not supported; choose backend and method, and leave it out",
    "job": "W&B Launch is not supported; say what a trial runs in program",
    "image_uri": "W&B Launch is not supported; say what a trial runs in program",
}
_METRIC: Final = "{name: validation/loss, goal: minimize}"
_STOPS: Final[Mapping[Backend, tuple[str, ...]]] = {"optuna": ("hyperband", "asha", "median"), "wandb": ("hyperband",)}
_SEVERAL: Final[tuple[Method, ...]] = ("tpe", "bayes", "random", "grid", "nsga2")
"""Methods that can have several objectives."""
_MOST_SEED: Final = 2**32 - 1


def read_sweep(path: Path, *, backend: Backend | None = None) -> Sweep:
    """`backend` in place of the file's. Raises ConfigError with one line for each mistake."""
    problems: list[str] = []
    sweep = _read(Section(read_document(path, problems), problems), backend)
    if problems or sweep is None:
        raise ConfigError(*problems)
    return sweep


def _read(top: Section, chosen: Backend | None) -> Sweep | None:
    """None where what is missing leaves nothing to be made."""
    top.get("description")  # a note for people
    top.refuse(_OF_WANDB)
    name = top.text(
        "name", r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", "must be 1 to 40 lower-case letters, digits and '-' between them"
    )
    if "name" not in top.keys:
        top.missing("name", "what the sweep is called, such as digits-lr")
    said = top.choice("backend", get_args(Backend))
    backend = chosen or cast(Backend, said or "optuna")
    method = _method(top, backend)
    objectives = _objectives(top, backend, method)
    parameters = _parameters(top)
    _check_space(top, backend, method, parameters)
    sweep = Sweep(
        name=name or "",
        program=read_program(top),
        objectives=objectives,
        parameters=parameters.searched,
        constants=parameters.constants,
        backend=backend,
        method=method,
        trials=_trials(top, method),
        experiment=top.text("experiment", r"\S(.{0,198}\S)?", "must be a name of 1 to 200 characters") or "default",
        early_stop=_early_stop(top, backend, len(objectives)),
        constraints=_constraints(top, backend),
        seed=top.whole("seed", 0, _MOST_SEED) or 0,
        max_failed=top.whole("max_failed", 1) or 3,
        heartbeat_s=float(top.number("heartbeat_s", above=0) or 10),
        wandb_entity=top.text("entity", r"[\w.-]+", "must be a name of letters, digits, '_', '-' and '.'"),
        wandb_project=top.text("project", r"[\w. -]+", "must be a name of letters, digits, spaces, '_', '-' and '.'"),
    )
    top.finish("a sweep")
    return sweep


def _method(top: Section, backend: Backend) -> Method:
    """Wrong ones count as the default, so that the rest can be checked."""
    every = tuple(dict.fromkeys(method for methods in METHODS.values() for method in methods))
    method = cast(Method | None, top.choice("method", every))
    if method is not None and method not in METHODS[backend]:
        top.problems.append(
            top.keys["method"].wrong(f"{backend} has {', '.join(METHODS[backend])}; {method} needs backend: optuna")
        )
    return method or METHODS[backend][0]


def _objectives(top: Section, backend: Backend, method: Method) -> tuple[Objective, ...]:
    entry = top.get("metric")
    if entry is None:
        top.missing("metric", f"what is to be small or great, such as {_METRIC}")
        return ()
    items = items_of(entry)
    objectives = [_objective(each, top.problems) for each in ([entry] if items is None else items)]
    names = [each.name for each in objectives if each is not None]
    if items is not None and not items:
        top.problems.append(entry.wrong(f"must be one metric or more, such as {_METRIC}"))
    if len(names) > 1 and backend == "wandb":
        top.problems.append(entry.wrong("W&B has one metric; several need backend: optuna"))
    elif len(names) > 1 and method not in _SEVERAL:
        top.problems.append(entry.wrong(f"{method} has one metric; several need {' or '.join(_SEVERAL)}"))
    for twice in {name for name in names if names.count(name) > 1}:
        top.problems.append(entry.wrong(f"{twice} is there twice"))
    return tuple(each for each in objectives if each is not None)


def _objective(entry: Entry, problems: list[str]) -> Objective | None:
    own = Section.of(entry, problems, _METRIC)
    if own is None:
        return None
    own.refuse(
        {
            "target": "a sweep ends when it has its trials; leave it out, and take fewer trials or early_terminate",
            "impute": "a trial that fails has no value; leave it out",
            "impute_while_running": "a trial that is running has no value yet; leave it out",
        }
    )
    name = own.text("name", r"\S(.{0,248}\S)?", "must be a metric's name of 1 to 250 characters")
    if "name" not in own.keys:
        own.missing("name", "the metric that the trials record, such as validation/loss")
    goal = own.choice("goal", get_args(Goal))
    own.finish("a metric")
    return None if name is None else Objective(name=name, goal=cast(Goal, goal or "minimize"))


def _parameters(top: Section) -> Parameters:
    entry = top.get("parameters")
    if entry is None:
        top.missing("parameters", "what is searched, such as {lr: {min: 0.001, max: 0.1}}")
        return Parameters()
    section = Section.of(entry, top.problems, "{lr: {min: 0.001, max: 0.1}}")
    if section is None:
        return Parameters()
    before = len(top.problems)
    found = read_parameters(section)
    if not found.searched and len(top.problems) == before:
        top.problems.append(entry.wrong("nothing is searched: each parameter has one value"))
    return found


def _check_space(top: Section, backend: Backend, method: Method, found: Parameters) -> None:
    """What method and backend make of the ranges."""
    for name, parameter in found.searched.items():
        entry = found.entries[name]
        if isinstance(parameter, Choice):
            if method == "cmaes":
                top.problems.append(entry.wrong("cmaes searches numbers between two bounds; take tpe, or a range"))
        elif reason := _unfit(parameter, backend, method):
            top.problems.append(entry.wrong(reason))
    if method == "cmaes" and len(found.searched) == 1:
        top.problems.append(top.keys["method"].wrong("needs two parameters or more that are searched; take tpe"))


def _unfit(parameter: Range, backend: Backend, method: Method) -> str | None:
    if method == "grid" and parameter.step is None and not parameter.integer:
        return "a grid has values that can be counted: give values, or q_uniform with q"
    if method == "grid" and backend == "wandb" and parameter.log:
        return "W&B's grid has no logarithmic range: give values"
    if backend == "optuna" and parameter.log and parameter.step is not None:
        return "Optuna has no logarithmic range with steps other than 1: give values, or leave out q"
    return None


def _trials(top: Section, method: Method) -> int | None:
    trials, run_cap = top.whole("trials", 1), top.whole("run_cap", 1)
    given = [key for key in ("trials", "run_cap") if key in top.keys]
    if len(given) > 1:
        top.problems.append(top.keys["run_cap"].wrong("is W&B's word for trials, which is there too; keep one of them"))
    if not given and method != "grid":
        top.missing("trials", f"how many there are to be; only a grid has an end of its own, {method} has none")
    return trials or run_cap


def _early_stop(top: Section, backend: Backend, objectives: int) -> EarlyStop | None:
    entry = top.get("early_terminate")
    own = None if entry is None else Section.of(entry, top.problems, "{type: hyperband, min_iter: 3}")
    if entry is None or own is None:
        return None
    if objectives > 1:
        top.problems.append(entry.wrong("trials with several metrics cannot be compared half-way; leave it out"))
    own.refuse({"strict": "is W&B's alone; leave it out"})
    stop = own.choice("type", _STOPS["optuna"])
    if "type" not in own.keys:
        own.missing("type", " or ".join(_STOPS[backend]))
    if stop is None:
        return None
    if stop not in _STOPS[backend]:
        top.problems.append(
            own.keys["type"].wrong(f"{backend} has {', '.join(_STOPS[backend])}; {stop} needs backend: optuna")
        )
    made = _median(own) if stop == "median" else _halving(own, "asha" if stop == "asha" else "hyperband")
    own.finish(f"early_terminate of type {stop}")
    return made


def _median(own: Section) -> EarlyStop:
    warmup = own.whole("warmup_trials", 1)
    return EarlyStop(type="median", min_steps=own.whole("min_iter", 1) or 1, warmup_trials=warmup or 5)


def _halving(own: Section, stop: Literal["hyperband", "asha"]) -> EarlyStop:
    """W&B takes `min_iter`, or `max_iter` and the number of rounds `s` that end there."""
    least, most = own.whole("min_iter", 1), own.whole("max_iter", 1)
    eta, rounds = own.whole("eta", 2) or 3, own.whole("s", 1)
    if rounds is not None and most is None:
        own.problems.append(own.keys["s"].wrong("counts rounds back from max_iter, which is missing"))
    if rounds is not None and least is not None:
        own.problems.append(own.keys["s"].wrong("says with max_iter what min_iter says already; keep one of them"))
    if least is None and most is not None and rounds is not None:
        least = max(1, most // eta**rounds)
    if least is not None and most is not None and least > most:
        own.problems.append(own.keys["min_iter"].wrong(f"must be at most max_iter, which is {most}"))
    if not {"s", "min_iter"} & own.keys.keys():
        own.missing("min_iter", "steps of the metric that every trial gets")
    return EarlyStop(type=stop, min_steps=least or 1, max_steps=most, reduction=eta)


def _constraints(top: Section, backend: Backend) -> tuple[Constraint, ...]:
    entry = top.get("constraints")
    if entry is None:
        return ()
    items = items_of(entry)
    if items is None:
        top.problems.append(entry.wrong("must be a list, such as [{metric: model/parameters, max: 100000}]"))
        return ()
    if backend == "wandb":
        top.problems.append(entry.wrong("W&B has no constraints; they need backend: optuna"))
    found = [_constraint(each, top.problems) for each in items]
    return tuple(each for each in found if each is not None)


def _constraint(entry: Entry, problems: list[str]) -> Constraint | None:
    own = Section.of(entry, problems, "{metric: model/parameters, max: 100000}")
    if own is None:
        return None
    metric = own.text("metric", r"\S(.{0,248}\S)?", "must be a metric's name of 1 to 250 characters")
    most, least = own.number("max"), own.number("min")
    if "metric" not in own.keys:
        own.missing("metric", "the metric that has a bound")
    if "max" not in own.keys and "min" not in own.keys:
        own.missing("max", "the bound; or min")
    if most is not None and least is not None and least > most:
        problems.append(own.keys["min"].wrong(f"must be at most max, which is {own.keys['max'].text}"))
    own.finish("a constraint")
    return None if metric is None else Constraint(metric=metric, max=most, min=least)
