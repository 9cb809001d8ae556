"""From defaults, file, environment and `--set` to a configuration, with every mistake in one error."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from trainyard.config.fields import Config, Field, Value, fields_of, sections_of
from trainyard.config.setting import Setting
from trainyard.config.typed import from_arguments, from_environment
from trainyard.config.yaml_file import TASK, from_yaml_file
from trainyard.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=Config)


def configure(
    config_type: type[ConfigT],
    overrides: Iterable[str] = (),
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
    task: str | None = None,
) -> ConfigT:
    """The defaults, changed by a YAML file, then by TRAINYARD_SET__* variables, then by `key=value` texts; the last one wins.

    `task`: what the file's key `task`, if it has one, must be. Raises ConfigError with one line for each mistake of all sources,
    also of those that a later one would change.
    """
    by_key = {field.key: field for field in fields_of(config_type)}
    problems: list[str] = []
    settings: list[Setting] = []
    if file is not None:
        settings += _of_file(file, by_key, task, problems)
    settings += from_environment(environ, problems)
    settings += from_arguments(overrides, problems)
    values = _values(settings, by_key, problems)
    if problems:
        raise ConfigError(*problems)
    return _build(config_type, {key: field.default for key, field in by_key.items()} | dict(values))


def _of_file(file: Path, by_key: Mapping[str, Field], task: str | None, problems: list[str]) -> Sequence[Setting]:
    try:
        settings = from_yaml_file(file, _sections(by_key), problems)
    except ConfigError as error:
        problems += error.problems
        return ()
    if TASK not in by_key:
        for each in settings:
            if each.key == TASK and task not in (None, each.text):
                problems.append(f"{each}: this file is for another task than {task}")
        settings = [each for each in settings if each.key != TASK]
    return settings


def _values(settings: Iterable[Setting], by_key: Mapping[str, Field], problems: list[str]) -> Mapping[str, Value]:
    values: dict[str, Value] = {}
    unknown = False
    for setting in settings:
        field = by_key.get(setting.key)
        if field is None:
            problems.append(_unknown(setting, by_key))
            unknown = True
        elif (value := setting.read_as(field)) is None:
            problems.append(f"{setting}: {field.requirement}")
        else:
            values[field.key] = value
    if unknown:
        problems.append(f"keys: {', '.join(by_key)}")
    return values


def _unknown(setting: Setting, by_key: Mapping[str, Field]) -> str:
    key = setting.key
    if members := [setting.spell(known) for known in by_key if known.startswith(f"{key}.")]:
        return f"{setting}: {key} is a section; set one of {', '.join(members)}"
    near = difflib.get_close_matches(key, [*by_key, *_sections(by_key)], n=1, cutoff=0.5)
    hint = f"; did you mean {setting.spell(near[0])}?" if near else ""
    return f"{setting}: there is no key {key}{hint}"


def _sections(by_key: Collection[str]) -> Collection[str]:
    """`a` and `a.b` for a key `a.b.c`."""
    parts = [key.split(".") for key in by_key]
    return {".".join(each[:length]) for each in parts for length in range(1, len(each))}


def _build(config_type: type[ConfigT], values: Mapping[str, Value], prefix: str = "") -> ConfigT:
    """Raises ConfigError for what fits no other value, in any section."""
    own: dict[str, Any] = {
        key.removeprefix(prefix): value
        for key, value in values.items()
        if key.startswith(prefix) and "." not in key.removeprefix(prefix)
    }
    problems: list[str] = []
    for name, section in sections_of(config_type).items():
        try:
            own[name] = _build(section, values, f"{prefix}{name}.")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return config_type(**own)
