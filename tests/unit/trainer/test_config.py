"""Configuration: what is accepted, what is refused and with which words."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
import yaml
from trainyard.cli import main
from trainyard.config import Choice, Config, Flag, Range, Text, config_hash, configure, fields_of, flatten, to_yaml
from trainyard.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine(Config):
    """A section."""

    power: Annotated[int, Range(1, 9)] = 5
    """Horses,
    on two lines."""
    steam: Annotated[bool, Flag()] = False
    """Whether it smokes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label(Config):
    """A section that gets its default from who inherits it."""

    label: Annotated[str, Text("[a-z0-9.]*", "lower-case letters and digits")]
    """What it is called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocoLabel(Label):
    """A section that does not count for the hash."""

    label: Annotated[str, Text("[a-z0-9.]*", "lower-case letters and digits")] = "loco"


@dataclass(frozen=True, kw_only=True, slots=True)
class Coal(Config):
    """Another one that does not, with a rule over two keys."""

    least: Annotated[int, Range(0, 100)] = 1
    """Least."""
    most: Annotated[int, Range(0, 100)] = 2
    """Most."""

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        if self.least > self.most:
            raise ConfigError(f"least={self.least}: must be at most {self.most}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Train(Config):
    """The configuration of these tests."""

    speed: Annotated[float, Range(0, 1, above=True)] = 0.5
    """Of the limit."""
    gauge: Annotated[str, Choice(("narrow", "broad"))] = "broad"
    """Between the rails."""
    engine: Engine = field(default_factory=Engine)
    tracking: LocoLabel = field(default_factory=LocoLabel)
    checkpoint: Coal = field(default_factory=Coal)
    tender: Coal = field(default_factory=partial(Coal, most=7))


KEYS = (
    "keys: speed, gauge, engine.power, engine.steam, tracking.label, checkpoint.least, checkpoint.most, tender.least, "
    "tender.most"
)


def problems(*overrides: str, **sources: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configure(Train, overrides, **sources)
    return list(caught.value.problems)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Named without its folder, so that messages are short."""
    monkeypatch.chdir(tmp_path)
    return Path("c.yaml")


def of_file(file: Path, text: str, **more: Any) -> Train:
    file.write_text(text)
    return configure(Train, file=file, **more)


def file_problems(file: Path, text: str, *overrides: str, **more: Any) -> list[str]:
    file.write_text(text)
    return problems(*overrides, file=file, **more)


def test_overrides_change_only_what_they_name() -> None:
    assert configure(Train, ["speed=1e-1", "engine.power=9"]) == Train(speed=0.1, engine=Engine(power=9))


def test_the_last_of_two_overrides_wins() -> None:
    assert configure(Train, ["speed=0.1", "speed=0.2"]).speed == 0.2


def test_a_value_may_contain_an_equals_sign() -> None:
    assert problems("tracking.label=a=b") == ["--set tracking.label=a=b: must be lower-case letters and digits"]


@pytest.mark.parametrize("value", ["-1", "0", "1.01", "nan", "inf", "abc", ""])
def test_a_wrong_number_is_named_with_its_range(value: str) -> None:
    assert problems(f"speed={value}") == [f"--set speed={value}: must be a number, above 0 and at most 1"]


@pytest.mark.parametrize("value", ["0", "10", "5.0", "five", "true"])
def test_a_wrong_whole_number_is_named_with_its_range(value: str) -> None:
    assert problems(f"engine.power={value}") == [f"--set engine.power={value}: must be a whole number, 1 to 9"]


def test_a_wrong_choice_is_named_with_the_choices() -> None:
    assert problems("gauge=wide") == ["--set gauge=wide: must be narrow or broad"]


@pytest.mark.parametrize(("value", "meant"), [("true", True), ("false", False), ("True", True)])
def test_a_flag_is_true_or_false(value: str, meant: bool) -> None:
    assert configure(Train, [f"engine.steam={value}"]).engine.steam is meant


@pytest.mark.parametrize("value", ["1", "0", "yes", ""])
def test_a_wrong_flag_is_refused(value: str) -> None:
    assert problems(f"engine.steam={value}") == [f"--set engine.steam={value}: must be true or false"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sped=1", "sped=1: there is no key sped; did you mean speed?"),
        ("power=1", "power=1: there is no key power; did you mean engine.power?"),
        ("engine.powr=1", "engine.powr=1: there is no key engine.powr; did you mean engine.power?"),
        ("xyzzy=1", "xyzzy=1: there is no key xyzzy"),
        ("engine=1", "engine=1: engine is a section; set one of engine.power, engine.steam"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_and_all_others(override: str, said: str) -> None:
    assert problems(override) == [f"--set {said}", KEYS]


def test_an_override_without_a_value_is_refused() -> None:
    assert problems("speed") == ["--set speed: must be key=value"]


def test_rules_over_two_keys_are_checked_in_every_section() -> None:
    assert problems("checkpoint.least=3", "tender.least=8") == [
        "least=3: must be at most 2",
        "least=8: must be at most 7",
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Engine(power=0), "power=0: must be a whole number, 1 to 9"),
        (lambda: Engine(power=True), "power=True: must be a whole number, 1 to 9"),
        (lambda: Engine(steam=cast(bool, 1)), "steam=1: must be true or false"),
    ],
)
def test_a_wrong_configuration_cannot_be_made_in_python_either(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_whole_number_is_a_number_in_python_too() -> None:
    speed = Train(speed=1).speed
    assert (speed, type(speed)) == (1.0, float)
    assert config_hash("t", Train(speed=1)) == config_hash("t", Train(speed=1.0))
    with pytest.raises(ConfigError, match="must be a number, above 0 and at most 1"):
        Train(speed=10**400)


def test_fields_describe_themselves() -> None:
    power = fields_of(Train)[2]
    assert (power.key, power.type, power.default, power.meaning) == ("engine.power", int, 5, "Horses, on two lines.")


def test_an_inherited_field_keeps_its_meaning_and_has_its_own_default() -> None:
    label = next(each for each in fields_of(Train) if each.key == "tracking.label")
    assert (label.default, label.meaning) == ("loco", "What it is called.")


def test_a_section_has_the_defaults_that_its_owner_gives_it() -> None:
    assert {each.key: each.default for each in fields_of(Train)} == flatten(Train())
    assert configure(Train, ["tender.least=6"]).tender == Coal(least=6, most=7)


def test_flat_view_has_every_key() -> None:
    assert flatten(Train()) == {
        "speed": 0.5,
        "gauge": "broad",
        "engine.power": 5,
        "engine.steam": False,
        "tracking.label": "loco",
        "checkpoint.least": 1,
        "checkpoint.most": 2,
        "tender.least": 1,
        "tender.most": 7,
    }


def test_hash_follows_what_is_trained_and_nothing_else() -> None:
    base = config_hash("t", Train())
    assert config_hash("t", configure(Train, ["tracking.label=other", "checkpoint.most=9"])) == base
    assert config_hash("t", configure(Train, ["engine.power=6"])) != base
    assert config_hash("t", configure(Train, ["tender.most=9"])) != base
    assert config_hash("other", Train()) != base


def test_yaml_nests_sections() -> None:
    assert yaml.safe_load(to_yaml("t", Train()))["engine"] == {"power": 5, "steam": False}


# --- the four sources ---


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=3)), ids=str)
@pytest.mark.parametrize(
    ("key", "values", "default"),
    [
        ("speed", (0.1, 0.2, 0.3), 0.5),
        ("engine.power", (1, 2, 3), 5),
        ("engine.steam", (True, False, True), False),
        ("tracking.label", ("a", "b", "c"), "loco"),
    ],
)
def test_the_later_source_wins(
    file: Path, key: str, values: tuple[Any, Any, Any], default: Any, given: tuple[bool, bool, bool]
) -> None:
    file.write_text(yaml.safe_dump({key: values[0]}) if given[0] else "# nothing\n")
    environ = {"TRAINYARD_SET__" + key.upper().replace(".", "__"): str(values[1])} if given[1] else {}
    overrides = [f"{key}={values[2]}"] if given[2] else []
    expected = next((value for value, said in zip(values[::-1], given[::-1], strict=True) if said), default)
    got = flatten(configure(Train, overrides, file=file, environ=environ))
    assert got == flatten(Train()) | {key: expected}


def test_every_mistake_of_every_source_is_reported_at_once(file: Path) -> None:
    found = file_problems(
        file,
        "speed: 2\n\nengine:\n  powr: 3\n",
        "engine.power=0",
        "nothing",
        environ={"TRAINYARD_SET__GAUGE": "wide", "TRAINYARD_SET__ENGINE_POWER": "3"},
    )
    assert sorted(found) == sorted(
        [
            "c.yaml:1: speed=2: must be a number, above 0 and at most 1",
            "c.yaml:4: engine.powr=3: there is no key engine.powr; did you mean engine.power?",
            "TRAINYARD_SET__GAUGE=wide: must be narrow or broad",
            "TRAINYARD_SET__ENGINE_POWER=3: there is no key engine_power; did you mean TRAINYARD_SET__ENGINE__POWER?",
            "--set engine.power=0: must be a whole number, 1 to 9",
            "--set nothing: must be key=value",
            KEYS,
        ]
    )


def test_a_mistake_is_reported_though_a_later_source_would_change_it(file: Path) -> None:
    assert len(file_problems(file, "speed: 2", "speed=0.1")) == 1


# --- the environment ---


@pytest.mark.parametrize(
    "name", ["TRAINYARD_SET__ENGINE__POWER", "trainyard_set__engine__power", "TRAINYARD_SET__engine__Power"]
)
def test_names_of_variables_are_read_in_any_case(name: str) -> None:
    assert configure(Train, environ={name: " 7 "}).engine.power == 7


def test_an_empty_variable_counts_as_unset() -> None:
    assert configure(Train, environ={"TRAINYARD_SET__SPEED": " ", "TRAINYARD_SET__NOTHING": ""}) == Train()


def test_other_variables_are_left_alone() -> None:
    assert configure(Train, environ={"SPEED": "9", "TRAINYARD_SPEED": "9", "TRAINYARD_SETTING": "9"}) == Train()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TRAINYARD_SET__LR": "1"}, "TRAINYARD_SET__LR=1: there is no key lr"),
        (
            {"TRAINYARD_SET__ENGINE": "1"},
            "TRAINYARD_SET__ENGINE=1: engine is a section; set one of TRAINYARD_SET__ENGINE__POWER",
        ),
        ({"TRAINYARD_SET_SPEED": "1"}, "TRAINYARD_SET_SPEED=1: begins with one underscore; write TRAINYARD_SET__SPEED"),
        (
            {"TRAINYARD_SET__SPEED": "1", "TRAINYARD_SET__speed": "1"},
            "TRAINYARD_SET__speed=1: TRAINYARD_SET__SPEED sets the same key; unset one of them",
        ),
    ],
)
def test_a_variable_that_sets_nothing_is_an_error(environ: Mapping[str, str], said: str) -> None:
    assert problems(environ=environ)[0].startswith(said)


# --- the file ---


@pytest.mark.parametrize(
    "text",
    [
        "engine:\n  power: 7\nspeed: 0.25\n",
        "engine.power: 7\nspeed: 2.5e-1\n",
        "speed: 25e-2  # YAML 1.1 takes this for a text\nengine: {power: '7'}\n",
        "task: train\nspeed: .25\nengine: {<<: &same {power: 7}}\n",
        "\ufeffspeed: 0.25\nengine:\n  power: 7\ntracking:\n",
        '{"speed": 0.25, "engine": {"power": 7}}',
    ],
)
def test_ways_to_write_the_same_file(file: Path, text: str) -> None:
    assert of_file(file, text, task="train") == Train(speed=0.25, engine=Engine(power=7))


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("speed: 1", "speed", 1.0),
        ("engine.steam: true", "engine.steam", True),
        ("engine.steam: 'true'", "engine.steam", True),
        ("tracking.label: 1.50", "tracking.label", "1.50"),
        ("tracking.label: no", "tracking.label", "no"),
        ("tracking.label: ''", "tracking.label", ""),
    ],
)
def test_a_value_is_read_as_its_field_has_it(file: Path, text: str, key: str, value: object) -> None:
    got = flatten(of_file(file, text))[key]
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engine.power: true", "engine.power=true: must be a whole number, 1 to 9"),
        ("engine.power: 5.0", "engine.power=5.0: must be a whole number, 1 to 9"),
        ("engine.power: five", "engine.power=five: must be a whole number, 1 to 9"),
        ("engine.power:", "engine.power=null: must be a whole number, 1 to 9"),
        ("engine.power: [1, 2]", "engine.power=[1, 2]: must be a whole number, 1 to 9"),
        ("engine.power: {a: 1}", "engine.power={a: 1}: must be a whole number, 1 to 9"),
        ("engine.power: !!int abc", "engine.power=abc: must be a whole number, 1 to 9"),
        ("engine.power: 2026-01-02", "engine.power=2026-01-02: must be a whole number, 1 to 9"),
        ("engine.steam: 1", "engine.steam=1: must be true or false"),
        ("speed: true", "speed=true: must be a number, above 0 and at most 1"),
        ("speed: .nan", "speed=.nan: must be a number, above 0 and at most 1"),
        pytest.param("speed: 1" + "0" * 400, "speed=10000", id="too large for a float"),
        pytest.param("speed: 1" + "0" * 5000, "speed=10000", id="too large for Python"),
        ("tracking.label: !secret a", "tracking.label=!secret a: must be lower-case letters and digits"),
        ("engine: 3", "engine=3: engine is a section; set one of engine.power, engine.steam"),
        ("engine: [3]", "engine=[3]: engine is a section; set one of engine.power, engine.steam"),
        ("engin: {power: 3}", "engin={power: 3}: there is no key engin; did you mean engine?"),
        ("speed: 0.1\nspeed: 0.2", "c.yaml:2: speed=0.2: is set in line 1 as well; keep one of them"),
        ("engine.power: 1\nengine: {power: 2}", "c.yaml:2: engine.power=2: is set in line 1 as well"),
        ("[1, 2]: 3", "c.yaml:1: a key must be a word"),
        ("task: plane", "c.yaml:1: task=plane: this file is for another task than train"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(file: Path, text: str, said: str) -> None:
    (first, *_) = file_problems(file, text, task="train")
    assert first.startswith("c.yaml:")
    assert said in first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- speed", "c.yaml:1: must be a mapping, lines of `key: value`"),
        ("speed", "c.yaml:1: must be a mapping, lines of `key: value`"),
        ("speed: 0.1\nengine: {power: 3\n", "c.yaml:3: not YAML: "),
        ("speed: 0.1\n\tgauge: broad\n", "c.yaml:2: not YAML: "),
        ("speed: 0.1\n---\nspeed: 0.2\n", "c.yaml:2: not YAML: "),
        ("engine: *there\n", "c.yaml:1: not YAML: found undefined alias"),
        ("speed: \x07\n", "c.yaml: not YAML: "),
    ],
)
def test_what_is_no_yaml_mapping_is_named_with_its_line(file: Path, text: str, said: str) -> None:
    (problem,) = file_problems(file, text)
    assert problem.startswith(said)


def test_a_file_that_cannot_be_read_is_named(file: Path, tmp_path: Path) -> None:
    assert problems(file=Path("none.yaml")) == ["none.yaml: cannot be read: No such file or directory"]
    assert problems(file=tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]
    file.write_bytes(b"speed: \xff\n")
    assert problems(file=file) == ["c.yaml: byte 7 is not UTF-8: must be a YAML text"]


def test_mistakes_beside_an_unreadable_file_are_reported(file: Path) -> None:
    assert len(file_problems(file, "[", "speed=2", environ={"TRAINYARD_SET__GAUGE": "wide"})) == 3


def test_a_file_without_a_task_or_a_reader_without_one_agree_with_any(file: Path) -> None:
    assert of_file(file, "speed: 0.25", task="train") == of_file(file, "task: plane\nspeed: 0.25")


@pytest.mark.parametrize("speed", [1.0, 0.1, 1e-5, 1e-300, math.nextafter(0.5, 1)])
@pytest.mark.parametrize("label", ["loco", "", "true", "null", "1e3", "0123", "no", "1.50"])
def test_what_a_run_logs_is_a_file_that_gives_the_same(file: Path, speed: float, label: str) -> None:
    config = Train(speed=speed, engine=Engine(power=9, steam=True), tracking=LocoLabel(label=label))
    assert to_yaml("train", config).startswith("task: train\n")
    assert of_file(file, to_yaml("train", config), task="train") == config


# --- as it is typed ---


def test_train_takes_the_three_sources_and_reports_all_mistakes_with_42(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("task: digits\nepochs: 0\n")
    monkeypatch.setenv("TRAINYARD_SET__LR", "-1")
    assert main(["train", "digits", "--config", "c.yaml", "--set", "batch_size=0"]) == 42
    printed = capsys.readouterr().err
    for said in ("c.yaml:2: epochs=0: must", "TRAINYARD_SET__LR=-1: must", "--set batch_size=0: must"):
        assert said in printed


def test_a_file_of_another_task_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(to_yaml("chess", Train()))
    assert main(["train", "digits", "--config", "c.yaml"]) == 42
    assert "c.yaml:1: task=chess: this file is for another task than digits" in capsys.readouterr().err


def test_help_of_a_task_names_the_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(way in printed for way in ("--config FILE", "TRAINYARD_SET__MODEL__LR=1", "--set model.lr=1"))
