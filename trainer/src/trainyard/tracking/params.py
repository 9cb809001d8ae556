"""Settings of a run as flat text."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Final

VALUE_LIMIT: Final = 6000
"""Characters of a parameter's value that MLflow takes."""
TAG_LIMIT: Final = 8000
_KEY_LIMIT: Final = 250


def flatten(params: object) -> dict[str, str]:
    """`{"model": {"layers": 2}}` as `{"model.layers": "2"}`, dataclasses alike. Raises TypeError or ValueError for anything else."""
    if not isinstance(params, Mapping) and not _is_dataclass(params):
        raise TypeError(f"params must be a mapping or a dataclass, not {type(params).__name__}")
    flat: dict[str, str] = {}
    for key, value in _walk((), params):
        if not 0 < len(key) <= _KEY_LIMIT:
            raise ValueError(
                f"parameter {key!r}: a name must have 1 to {_KEY_LIMIT} characters, with those it is nested in"
            )
        if key in flat:
            raise ValueError(f"parameter {key}: appears twice, once with a dot in its name and once nested")
        flat[key] = value
    return flat


def cut(value: str, limit: int, whole: str) -> str:
    """`value` within `limit` characters; what is cut says how long it was and where it is kept whole."""
    note = f" ... [{len(value)} characters; whole in artifact {whole}]"
    return value[: limit - len(note)] + note


def _walk(above: tuple[str, ...], value: object) -> Iterator[tuple[str, str]]:
    inner = value.items() if isinstance(value, Mapping) else _fields(value) if _is_dataclass(value) else None
    if inner is None:
        yield ".".join(above), _text(value)
        return
    empty = True
    for key, each in inner:
        empty = False
        yield from _walk((*above, str(key)), each)
    if empty and above:
        yield ".".join(above), "{}"


def _fields(value: object) -> Iterator[tuple[str, object]]:
    return ((field.name, getattr(value, field.name)) for field in fields(value))  # type: ignore[arg-type]  # asked before


def _is_dataclass(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    return (
        str(value)
        if isinstance(value, str | PurePath)
        else repr(value)
        if isinstance(value, list | tuple | set)
        else str(value)
    )
