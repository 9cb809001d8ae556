"""The text of a YAML file, and its mistakes as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from trainyard.errors import ConfigError


@contextmanager
def yaml_text(file: Path) -> Iterator[str]:
    """Read it, for a block that parses it. Raises ConfigError, which names the line, where either cannot be done."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start} is not UTF-8: must be a YAML text") from error
    try:
        yield text
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
