"""Configuration: what is accepted, what is refused and with which words."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import yaml
from trainyard.config import Choice, Config, Range, Text, config_hash, configure, fields_of, flatten, to_yaml
from trainyard.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine(Config):
    """A section."""

    power: Annotated[int, Range(1, 9)] = 5
    """Horses,
    on two lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Name(Config):
    """A section that does not count for the hash."""

    label: Annotated[str, Text("[a-z]+", "lower-case letters")] = "loco"
    """What it is called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Train(Config):
    """The configuration of these tests."""

    speed: Annotated[float, Range(0, 1, above=True)] = 0.5
    """Of the limit."""
    gauge: Annotated[str, Choice(("narrow", "broad"))] = "broad"
    """Between the rails."""
    engine: Engine = field(default_factory=Engine)
    tracking: Name = field(default_factory=Name)


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configure(Train, overrides)
    return list(caught.value.problems)


def test_overrides_change_only_what_they_name() -> None:
    assert configure(Train, ["speed=1e-1", "engine.power=9"]) == Train(speed=0.1, engine=Engine(power=9))


def test_the_last_of_two_overrides_wins() -> None:
    assert configure(Train, ["speed=0.1", "speed=0.2"]).speed == 0.2


def test_a_value_may_contain_an_equals_sign() -> None:
    assert problems("tracking.label=a=b") == ["tracking.label=a=b: must be lower-case letters"]


@pytest.mark.parametrize("value", ["-1", "0", "1.01", "nan", "inf", "abc", ""])
def test_a_wrong_number_is_named_with_its_range(value: str) -> None:
    assert problems(f"speed={value}") == [f"speed={value}: must be a number, above 0 and at most 1"]


@pytest.mark.parametrize("value", ["0", "10", "5.0", "five"])
def test_a_wrong_whole_number_is_named_with_its_range(value: str) -> None:
    assert problems(f"engine.power={value}") == [f"engine.power={value}: must be a whole number, 1 to 9"]


def test_a_wrong_choice_is_named_with_the_choices() -> None:
    assert problems("gauge=wide") == ["gauge=wide: must be narrow or broad"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sped=1", "sped=1: there is no key sped; did you mean speed?"),
        ("power=1", "power=1: there is no key power; did you mean engine.power?"),
        ("engine.powr=1", "engine.powr=1: there is no key engine.powr; did you mean engine.power?"),
        ("xyzzy=1", "xyzzy=1: there is no key xyzzy"),
        ("engine=1", "engine=1: engine is a section; set one of engine.power"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_and_all_others(override: str, said: str) -> None:
    assert problems(override) == [said, "keys: speed, gauge, engine.power, tracking.label"]


def test_an_override_without_a_value_is_refused() -> None:
    assert problems("speed") == ["speed: must be key=value"]


def test_every_mistake_is_reported_at_once() -> None:
    assert len(problems("speed=2", "engine.power=0", "sped=1")) == 4


def test_a_wrong_configuration_cannot_be_made_in_python_either() -> None:
    with pytest.raises(ConfigError, match="power=0: must be a whole number, 1 to 9"):
        Engine(power=0)


def test_fields_describe_themselves() -> None:
    power = fields_of(Train)[2]
    assert (power.key, power.type, power.default, power.meaning) == ("engine.power", int, 5, "Horses, on two lines.")


def test_flat_view_has_every_key() -> None:
    assert flatten(Train()) == {"speed": 0.5, "gauge": "broad", "engine.power": 5, "tracking.label": "loco"}


def test_hash_follows_what_is_trained_and_nothing_else() -> None:
    base = config_hash("t", Train())
    assert config_hash("t", configure(Train, ["tracking.label=other"])) == base
    assert config_hash("t", configure(Train, ["engine.power=6"])) != base
    assert config_hash("other", Train()) != base


def test_yaml_nests_sections() -> None:
    assert yaml.safe_load(to_yaml("t", Train()))["engine"] == {"power": 5}
