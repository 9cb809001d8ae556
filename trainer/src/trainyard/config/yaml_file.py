"""Settings from a YAML file, each with its line."""

from collections.abc import Collection
from pathlib import Path

import yaml

from trainyard.config.setting import Setting
from trainyard.config.yaml_text import yaml_text
from trainyard.errors import ConfigError

TASK = "task"
"""The key that says for which task a file is; `to_yaml` writes it first."""
_NULL = "tag:yaml.org,2002:null"
_TYPED = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp")


def from_yaml_file(file: Path, sections: Collection[str], problems: list[str]) -> list[Setting]:
    """Nested mappings or dotted keys; `sections` are the keys whose values are mappings.

    A key that is given twice goes to `problems`. Raises ConfigError if the file cannot be read, or is no YAML mapping.
    """
    with yaml_text(file) as text:
        return _Walk(file, text, sections, problems).settings()


class _Walk:
    """Through the nodes of one file: values alone would not know their lines."""

    def __init__(self, file: Path, text: str, sections: Collection[str], problems: list[str]) -> None:
        self._file = file
        self._text = text
        self._loader = yaml.SafeLoader(text)
        self._sections = sections
        self._problems = problems
        self._lines: dict[str, int] = {}
        self._found: list[Setting] = []

    def settings(self) -> list[Setting]:
        root = self._loader.get_single_node()
        if root is None:  # nothing, or comments only: every default
            return []
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{self._file}:{_line(root)}: must be a mapping, lines of `key: value`")
        self._mapping(root, prefix="")
        return self._found

    def _mapping(self, node: yaml.MappingNode, prefix: str) -> None:
        self._loader.flatten_mapping(node)  # `<<: *defaults`
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self._problems.append(f"{self._file}:{_line(name)}: a key must be a word")
                continue
            key = f"{prefix}{name.value}"
            if key in self._sections and isinstance(value, yaml.MappingNode):
                self._mapping(value, f"{key}.")
            elif key not in self._sections or value.tag != _NULL:  # a section may be empty
                self._add(key, value, _line(name))

    def _add(self, key: str, node: yaml.Node, line: int) -> None:
        name = f"{self._file}:{line}: {key}"
        if key in self._lines:
            self._problems.append(
                f"{name}={self._written(node)}: is set in line {self._lines[key]} as well; keep one of them"
            )
        self._lines[key] = line
        self._found.append(Setting(key=key, value=self._scalar(node), text=self._written(node), name=name))

    def _scalar(self, node: yaml.Node) -> bool | int | float | str | None:
        """The value by YAML's rules; None for null, lists, mappings and tags of somebody's own."""
        if isinstance(node, yaml.ScalarNode) and node.tag in _TYPED:
            try:
                value: bool | int | float | None = self._loader.construct_object(node)
            except ValueError:  # such as `!!int abc`
                return None
            return value
        return str(node.value) if isinstance(node, yaml.ScalarNode) and node.tag in _TEXTS else None

    def _written(self, node: yaml.Node) -> str:
        if node.tag == _NULL:
            return "null"
        if isinstance(node, yaml.ScalarNode) and node.tag in (*_TYPED, *_TEXTS):
            return str(node.value)
        return " ".join(self._text[node.start_mark.index : node.end_mark.index].split())


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
