"""The fields of a configuration: type, default, what is allowed, meaning; read from the dataclass itself.

A field is `name: Annotated[type, constraint] = default`, followed by a docstring; a nested `Config` is a section.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from trainyard.errors import ConfigError

Value = bool | int | float | str


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
class Flag:
    """Yes or no."""

    def allows(self, value: bool) -> bool:  # noqa: ARG002 - both are fine
        """See `Constraint`."""
        return True

    def describe(self) -> str:
        """See `Constraint`."""
        return "true or false"


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
        """Whether `value` has exactly the right type (True is no whole number) and is in range."""
        return type(value) is self.type and self.constraint.allows(value)

    @property
    def requirement(self) -> str:
        """What is said of a wrong value."""
        kind = {int: "a whole number, ", float: "a number, "}.get(self.type, "")
        return f"must be {kind}{self.constraint.describe()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Base of every configuration: checks each field when it is made, so that a wrong one cannot exist."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming every wrong field. A whole number for a float field becomes a float."""
        own_fields = [field for field in fields_of(type(self)) if "." not in field.key]
        for field in own_fields:
            if field.type is float and type(value := getattr(self, field.key)) is int:
                with suppress(OverflowError):
                    object.__setattr__(self, field.key, float(value))
        own = [(field, getattr(self, field.key)) for field in own_fields]
        if problems := [f"{field.key}={value}: {field.requirement}" for field, value in own if not field.allows(value)]:
            raise ConfigError(*problems)


def fields_of(config_type: type[Config]) -> tuple[Field, ...]:
    """Every key of a configuration, sections flattened, in the order they are written."""
    return tuple(_walk(config_type, prefix=""))


def sections_of(config_type: type[Config]) -> dict[str, type[Config]]:
    """The nested configurations, by name."""
    hints = get_type_hints(config_type)
    found = {each.name: hints[each.name] for each in fields(config_type)}
    return {name: hint for name, hint in found.items() if isinstance(hint, type) and issubclass(hint, Config)}


def _walk(config_type: type[Config], prefix: str, made: Config | None = None) -> Iterator[Field]:
    """`made`: a section as its default_factory makes it, which may have other defaults than its class."""
    hints = get_type_hints(config_type, include_extras=True)
    meanings = _docstrings(config_type)
    for each in fields(config_type):
        hint = hints[each.name]
        default: Any = each.default if made is None else getattr(made, each.name)
        if isinstance(hint, type) and issubclass(hint, Config):
            if made is None and each.default_factory is not MISSING:
                default = each.default_factory()
            yield from _walk(hint, f"{prefix}{each.name}.", default)
            continue
        assert get_origin(hint) is Annotated, f"{config_type.__name__}.{each.name} needs a constraint"
        kind, constraint = get_args(hint)
        yield Field(f"{prefix}{each.name}", kind, default, constraint, meanings[each.name])


def _docstrings(config_type: type[Config]) -> dict[str, str]:
    """The docstring under each field, its own or that of the nearest base: Python throws them away, so the source is read."""
    meanings: dict[str, str] = {}
    for each in reversed(config_type.__mro__):
        if is_dataclass(each):
            meanings |= _own_docstrings(each)
    return meanings


@cache
def _own_docstrings(config_type: type) -> dict[str, str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(config_type))).body
    assert isinstance(node, ast.ClassDef)
    meanings = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                meanings[name] = " ".join(text.split())
    return meanings
