"""A YAML file whose values know where they stand, asked key by key, with every mistake in one list."""

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from trainyard.config.yaml_text import yaml_text
from trainyard.errors import ConfigError

_T = TypeVar("_T")
_NULL: Final = "tag:yaml.org,2002:null"
_PLAIN: Final = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "str", "null"))


class _Loader(yaml.SafeLoader):
    """PyYAML takes `1e-4` for a text; YAML 1.2, and who writes learning rates, for a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of the file."""

    place: str
    """File, line and dotted key: `sweep.yaml:3: parameters.lr`."""
    text: str
    """As it is written."""
    value: Any
    """A scalar, a list of entries, or a dict of them by key."""

    def wrong(self, what: str) -> str:
        """What is said of it; of several lines, the first one's number is enough."""
        block = isinstance(self.value, dict | list) and not self.text.startswith(("{", "["))
        return f"{self.place}: {what}" if block else f"{self.place}={self.text}: {what}"

    def at(self, key: str) -> str:
        """Place of a key that it should have."""
        return f"{self.place}.{key}" if ": " in self.place else f"{self.place}: {key}"


@dataclass(slots=True)
class Section:
    """A mapping of the file. Each key is asked for; what nobody has asked for is unknown, which `finish` says."""

    entry: Entry
    problems: list[str]
    _asked: dict[str, None] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, entry: Entry, problems: list[str], such_as: str) -> "Section | None":
        """None where the entry is no mapping, which is a problem."""
        if isinstance(entry.value, dict):
            return cls(entry, problems)
        problems.append(entry.wrong(f"must be a mapping, such as {such_as}"))
        return None

    @property
    def every(self) -> Mapping[str, Entry]:
        """What it has."""
        entries: Mapping[str, Entry] = self.entry.value
        return entries

    @property
    def keys(self) -> Mapping[str, Entry]:
        """The same without what is null, which counts as not there."""
        return {key: entry for key, entry in self.every.items() if entry.value is not None}

    def get(self, key: str) -> Entry | None:
        """The entry of a key; None where there is none, or nothing in it."""
        self._asked[key] = None
        return self.keys.get(key)

    def missing(self, key: str, what: str) -> None:
        """The key must be there."""
        self.problems.append(f"{self.entry.at(key)}: is missing: {what}")

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Keys that are known and cannot be had, each with what to do."""
        for key, reason in reasons.items():
            if key in self.keys:
                self._refused.add(key)
                self.problems.append(self.keys[key].wrong(reason))

    def text(self, key: str, pattern: str, says: str) -> str | None:
        """A text that matches `pattern`."""
        return self._typed(key, lambda entry: text_of(entry) if re.fullmatch(pattern, entry.text) else None, says)

    def choice(self, key: str, options: Collection[str]) -> str | None:
        """One of a few words."""
        entry = self.get(key)
        if entry is None or entry.value in options:
            return None if entry is None else str(entry.value)
        self.problems.append(entry.wrong(f"must be {' or '.join(options)}{did_you_mean(entry.text, options)}"))
        return None

    def whole(self, key: str, low: int = 0, high: int | None = None) -> int | None:
        """A whole number."""
        says = f"must be a whole number, {low} {'or more' if high is None else f'to {high}'}"

        def meaning(entry: Entry) -> int | None:
            number = entry.value
            right = type(number) is int and number >= low and (high is None or number <= high)
            return number if right else None

        return self._typed(key, meaning, says)

    def number(self, key: str, *, above: float | None = None) -> float | None:
        """A number, whole or not, that is finite."""
        says = "must be a number" if above is None else f"must be a number above {above:g}"

        def meaning(entry: Entry) -> float | None:
            number = entry.value
            right = type(number) in (int, float) and math.isfinite(number) and (above is None or number > above)
            return number if right else None

        return self._typed(key, meaning, says)

    def finish(self, of_what: str) -> None:
        """Name every key that nobody has asked for."""
        for key, entry in self.every.items():
            if key not in (*self._asked, *self._refused):
                hint = did_you_mean(key, self._asked) or f"; keys: {', '.join(self._asked)}"
                self.problems.append(entry.wrong(f"{of_what} has no key {key}{hint}"))

    def _typed(self, key: str, meaning: Callable[[Entry], _T | None], says: str) -> _T | None:
        entry = self.get(key)
        if entry is None:
            return None
        value = meaning(entry)
        if value is None:
            self.problems.append(entry.wrong(says))
        return value


def did_you_mean(word: str, known: Collection[str]) -> str:
    """The nearest right one as the end of a sentence, or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def text_of(entry: Entry) -> str | None:
    """As written, if it is one word or line: `name: 1` is a name, too."""
    return entry.text if isinstance(entry.value, str | int | float) else None


def items_of(entry: Entry) -> Sequence[Entry] | None:
    """Of a list."""
    return entry.value if isinstance(entry.value, list) else None


def read_document(file: Path, problems: list[str]) -> Entry:
    """The file's mapping. A key that is given twice goes to `problems`; raises ConfigError if there is no mapping to be read."""
    with yaml_text(file) as text:
        loader = _Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{file}: must be a mapping, lines of `key: value`")
        mapping = _Reader(file, text, loader, problems).mapping(node, "")
    return Entry(str(file), "", mapping)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Through the nodes of one file: values alone would not know their lines."""

    file: Path
    text: str
    loader: _Loader
    problems: list[str]

    def mapping(self, node: yaml.MappingNode, prefix: str) -> dict[str, Entry]:
        self.loader.flatten_mapping(node)  # `<<: *defaults`
        entries: dict[str, Entry] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self.problems.append(f"{self.file}:{_line(name)}: a key must be a word")
                continue
            entry = self._entry(value, f"{prefix}{name.value}", _line(name))
            if name.value in entries:
                self.problems.append(entry.wrong("is set twice; keep one of them"))
            entries[str(name.value)] = entry
        return entries

    def _entry(self, node: yaml.Node, key: str, line: int) -> Entry:
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self.mapping(node, f"{key}.")
        elif isinstance(node, yaml.SequenceNode):
            value = [self._entry(each, f"{key}[{index}]", _line(each)) for index, each in enumerate(node.value)]
        else:
            value = self._scalar(node)
        return Entry(f"{self.file}:{line}: {key}", self._written(node), value)

    def _scalar(self, node: yaml.Node) -> Any:
        """By YAML's rules; a day, and what has a tag of somebody's own, is its text."""
        if node.tag not in _PLAIN:
            return node.value
        try:
            return self.loader.construct_object(node)
        except ValueError:  # such as `!!int abc`
            return node.value

    def _written(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode):
            return "null" if node.tag == _NULL else str(node.value)
        return " ".join(self.text[node.start_mark.index : node.end_mark.index].split())


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
