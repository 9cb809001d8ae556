"""A configuration as flat parameters, as a hash and as YAML."""

import hashlib
import json
from dataclasses import asdict
from operator import attrgetter

import yaml

from trainyard.config.fields import Config, Value, fields_of

_NOT_TRAINED = ("tracking.", "checkpoint.")


def flatten(config: Config) -> dict[str, Value]:
    """Every key, dotted, with its value."""
    return {field.key: attrgetter(field.key)(config) for field in fields_of(type(config))}


def config_hash(task: str, config: Config) -> str:
    """12 hex digits, the same for two configurations that train the same thing.

    Keys under `tracking` and `checkpoint` only say what is kept of a run, and where, so they do not count.
    """
    training = {key: value for key, value in flatten(config).items() if not key.startswith(_NOT_TRAINED)}
    text = json.dumps({"task": task, **training}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def to_yaml(task: str, config: Config) -> str:
    """The task's name and its configuration, sections nested: a file that `configure` reads."""
    return yaml.safe_dump({"task": task, **asdict(config)}, sort_keys=False)
