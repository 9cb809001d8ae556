"""Configuration: frozen dataclasses whose fields know their range and meaning; what changes them; flat view, hash and YAML."""

from trainyard.config.dump import config_hash, flatten, to_yaml
from trainyard.config.fields import Choice, Config, Field, Flag, Range, Text, fields_of
from trainyard.config.merging import configure

__all__ = [
    "Choice",
    "Config",
    "Field",
    "Flag",
    "Range",
    "Text",
    "config_hash",
    "configure",
    "fields_of",
    "flatten",
    "to_yaml",
]
