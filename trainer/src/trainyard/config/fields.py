"""The fields of a configuration: type, default, what is allowed, meaning; read from the dataclass itself.

A field is `name: Annotated[type, constraint] = default`, followed by a docstring; a nested `Config` is a section.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from trainyard.errors import ConfigError

Value = int | float | str


class Constraint(Protocol):
    """What values a field takes."""

    def allows(self, value: Any) -> bool:
        """`value` already has the field's type."""

    def describe(self) -> str:
        """As in "must be <describe()>"."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both allowed unless `above` says that `low` itself is not."""

    low: float
    high: float
    above: bool = False

    def allows(self, value: float) -> bool:
        """See `Constraint`."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def describe(self) -> str:
        """See `Constraint`."""
        return f"above {self.low} and at most {self.high}" if self.above else f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]

    def allows(self, value: str) -> bool:
        """See `Constraint`."""
        return value in self.options

    def describe(self) -> str:
        """See `Constraint`."""
        return " or ".join(self.options)


@dataclass(frozen=True, slots=True)
class Text:
    """A text that matches `pattern`; `says` is the pattern in words."""

    pattern: str
    says: str

    def allows(self, value: str) -> bool:
        """See `Constraint`."""
        return re.fullmatch(self.pattern, value) is not None

    def describe(self) -> str:
        """See `Constraint`."""
        return self.says


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a configuration."""

    key: str
    """Dotted path, such as `model.dropout`."""
    type: type[Value]
    default: Value
    constraint: Constraint
    meaning: str

    def allows(self, value: object) -> bool:
        """Whether `value` has the right type and is in range."""
        return type(value) is self.type and self.constraint.allows(value)

    def problem(self, shown: object) -> str:
        """One line that says why the value, as the user wrote it, is wrong."""
        kind = {int: "a whole number, ", float: "a number, "}.get(self.type, "")
        return f"{self.key}={shown}: must be {kind}{self.constraint.describe()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Base of every configuration: checks each field when it is made, so that a wrong one cannot exist."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming every wrong field."""
        own = ((field, getattr(self, field.key)) for field in fields_of(type(self)) if "." not in field.key)
        if problems := [field.problem(value) for field, value in own if not field.allows(value)]:
            raise ConfigError(*problems)


def fields_of(config_type: type[Config]) -> tuple[Field, ...]:
    """Every key of a configuration, sections flattened, in the order they are written."""
    return tuple(_walk(config_type, prefix=""))


def sections_of(config_type: type[Config]) -> dict[str, type[Config]]:
    """The nested configurations, by name."""
    hints = get_type_hints(config_type)
    found = {each.name: hints[each.name] for each in fields(config_type)}
    return {name: hint for name, hint in found.items() if isinstance(hint, type) and issubclass(hint, Config)}


def _walk(config_type: type[Config], prefix: str) -> Iterator[Field]:
    hints = get_type_hints(config_type, include_extras=True)
    meanings = _docstrings(config_type)
    for each in fields(config_type):
        hint = hints[each.name]
        if isinstance(hint, type) and issubclass(hint, Config):
            yield from _walk(hint, f"{prefix}{each.name}.")
            continue
        assert get_origin(hint) is Annotated, f"{config_type.__name__}.{each.name} needs a constraint"
        kind, constraint = get_args(hint)
        default: Any = each.default
        yield Field(f"{prefix}{each.name}", kind, default, constraint, meanings[each.name])


def _docstrings(config_type: type[Config]) -> dict[str, str]:
    """The docstring under each field: Python throws it away, so it is read from the source."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(config_type))).body
    assert isinstance(node, ast.ClassDef)
    meanings = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                meanings[name] = " ".join(text.split())
    return meanings
