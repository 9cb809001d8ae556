"""The command line of a trial: the sweep's program with the trial's parameters in it."""

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Final

from trainyard.config import Field, fields_of
from trainyard.config.setting import Setting
from trainyard.config.typed import from_arguments
from trainyard.errors import ConfigError
from trainyard.sweeps.document import did_you_mean
from trainyard.sweeps.macros import MACROS
from trainyard.sweeps.sweep import Choice, ParameterValue, Sweep
from trainyard.tasks import find_task

_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
"""`{lr}`, but not a shell's `${HOME}`."""


def trial_command(sweep: Sweep, parameters: Mapping[str, ParameterValue]) -> tuple[str, ...]:
    """The program's words with all parameters, constants included.

    `{name}` is replaced, and so are W&B's macros; a ready task gets what is left over as `--set`.
    """
    words: list[str] = []
    for word in sweep.program:
        if word in MACROS:
            words += MACROS[word](parameters)
        else:
            words.append(_PLACEHOLDER.sub(lambda found: as_text(parameters[found[1]]), word))
    if task_of(sweep.program) is not None:
        used = set(placeholders(sweep.program))
        words += [
            part
            for name, value in parameters.items()
            if name not in used
            for part in ("--set", f"{name}={as_text(value)}")
        ]
    return tuple(words)


def as_text(value: ParameterValue) -> str:
    """As `--set` and YAML read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def placeholders(program: Sequence[str]) -> Iterator[str]:
    """The names in braces."""
    for word in program:
        if word not in MACROS:
            yield from _PLACEHOLDER.findall(word)


def task_of(program: Sequence[str]) -> str | None:
    """The TASK of `trainyard train TASK`, which may stand after a launcher; None for any other program."""
    for index, word in enumerate(program[:-2]):
        if PurePath(word).name == "trainyard" and program[index + 1] == "train":
            return program[index + 2]
    return None


def check_program(sweep: Sweep) -> None:
    """Raises ConfigError for what would make every trial fail, before there is one."""
    problems = [
        f"program: {{{name}}} is no parameter{did_you_mean(name, _names(sweep))}; parameters: {', '.join(_names(sweep))}"
        for name in dict.fromkeys(placeholders(sweep.program))
        if name not in _names(sweep)
    ]
    if shutil.which(sweep.program[0]) is None:
        missing = "cannot be run" if os.sep in sweep.program[0] else "is not found on PATH"
        problems.append(f"program: {sweep.program[0]} {missing}")
    task = task_of(sweep.program)
    if task is not None and not _PLACEHOLDER.search(task):
        try:
            problems += _problems_of_task(sweep, task)
        except ConfigError as error:
            problems += [f"program: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(*problems)


def _names(sweep: Sweep) -> Sequence[str]:
    return (*sweep.parameters, *sweep.constants)


def _problems_of_task(sweep: Sweep, name: str) -> list[str]:
    fields = {field.key: field for field in fields_of(find_task(name).config_type)}
    macros = [word for word in sweep.program if word in MACROS]
    problems = [f"program: {word} is not for trainyard train, which gets the parameters as --set" for word in macros]
    fixed = from_arguments(_fixed(sweep.program), problems)
    used = set(placeholders(sweep.program))
    for setting in fixed:
        if setting.key in _names(sweep) and setting.key not in used:
            problems.append(f"parameters.{setting.key}: the program says {setting.name} as well; keep one of them")
        elif not _PLACEHOLDER.search(setting.text):
            problems += _problems(setting, fields, name)
    for key in _names(sweep):
        if key not in used:
            for value in _extremes(sweep, key):
                setting = Setting(key=key, value=as_text(value), text=as_text(value), name=f"parameters.{key}")
                problems += _problems(setting, fields, name)
    return list(dict.fromkeys(problems))


def _problems(setting: Setting, fields: Mapping[str, Field], task: str) -> list[str]:
    field = fields.get(setting.key)
    if field is None:
        return [f"{setting.name}: {task} has no key {setting.key}{did_you_mean(setting.key, fields)}"]
    return [] if setting.read_as(field) is not None else [f"{setting}: {task} says: {field.requirement}"]


def _extremes(sweep: Sweep, name: str) -> tuple[ParameterValue, ...]:
    """Each value, or both ends: a key that takes these takes what is between."""
    parameter = sweep.parameters.get(name)
    if parameter is None:
        return (sweep.constants[name],)
    return parameter.values if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def _fixed(program: Sequence[str]) -> list[str]:
    """What follows each `--set`."""
    apart = [value for option, value in itertools.pairwise(program) if option == "--set"]
    return apart + [word.removeprefix("--set=") for word in program if word.startswith("--set=")]
