"""One value that somebody gave a key, and how to speak of it."""

from collections.abc import Callable
from dataclasses import dataclass

from trainyard.config.fields import Field, Value


def as_written(key: str) -> str:
    """Of a source that calls keys by their own names."""
    return key


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """`key` has been given a value."""

    key: str
    """Dotted path; may not exist."""
    value: bool | int | float | str | None
    """As the source has it: a text where it has no types. None cannot be a value of any field."""
    text: str
    """As the user wrote it."""
    name: str
    """Source and key as the user wrote them, such as `config.yaml:3: model.dropout`."""
    spell: Callable[[str], str] = as_written
    """How the source writes another key."""

    def __str__(self) -> str:
        return f"{self.name}={self.text}"

    def read_as(self, field: Field) -> Value | None:
        """The value in the field's type and range; None if it cannot be that."""
        value = self._converted(field.type)
        return value if value is not None and field.allows(value) else None

    def _converted(self, kind: type[Value]) -> Value | None:
        if kind is str:
            return None if self.value is None else self.text
        if isinstance(self.value, str):
            return _parsed(kind, self.value)
        if kind is float and type(self.value) is int:
            return _parsed(float, str(self.value))
        return self.value


def _parsed(kind: type[Value], text: str) -> Value | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        return kind(text)
    except ValueError:
        return None
