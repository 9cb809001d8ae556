"""From `--set key=value` to a configuration, with every mistake in one error."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from trainyard.config.fields import Config, Field, Value, fields_of, sections_of
from trainyard.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=Config)


def configure(config_type: type[ConfigT], overrides: Iterable[str]) -> ConfigT:
    """The defaults of `config_type` changed by `key=value` texts; of two for one key the later wins.

    Raises ConfigError with one line for each wrong override.
    """
    by_key = {field.key: field for field in fields_of(config_type)}
    values: dict[str, Value] = {}
    problems: list[str] = []
    unknown = False
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        if not equals:
            problems.append(f"{override}: must be key=value")
        elif key not in by_key:
            problems.append(_unknown(key, text, by_key))
            unknown = True
        elif (value := _parse(by_key[key], text)) is None or not by_key[key].allows(value):
            problems.append(by_key[key].problem(text))
        else:
            values[key] = value
    if unknown:
        problems.append(f"keys: {', '.join(by_key)}")
    if problems:
        raise ConfigError(*problems)
    return _build(config_type, values)


def _parse(field: Field, text: str) -> Value | None:
    """`text` as the field's type; None if it cannot be read as that."""
    try:
        return field.type(text)
    except ValueError:
        return None


def _unknown(key: str, text: str, by_key: Mapping[str, Field]) -> str:
    section = [known for known in by_key if known.startswith(f"{key}.")]
    if section:
        return f"{key}={text}: {key} is a section; set one of {', '.join(section)}"
    near = difflib.get_close_matches(key, by_key, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{key}={text}: there is no key {key}{hint}"


def _build(config_type: type[ConfigT], values: Mapping[str, Value], prefix: str = "") -> ConfigT:
    sections = sections_of(config_type)
    own = {
        key.removeprefix(prefix): value
        for key, value in values.items()
        if key.startswith(prefix) and "." not in key.removeprefix(prefix)
    }
    nested = {name: _build(section, values, f"{prefix}{name}.") for name, section in sections.items()}
    return config_type(**own, **nested)
