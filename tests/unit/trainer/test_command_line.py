"""What a person types wrong, and what they then read. All of it without MLflow, and before torch is imported."""

import pytest
from trainyard.cli import main
from trainyard.config import fields_of
from trainyard.tasks import TASKS


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", "http://127.0.0.1:9"
    )  # nothing listens: reaching for it would fail with 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "digits", "--set", "lr=-1"], "lr=-1: must be a number, above 0 and at most 1"),
        (["train", "digits", "--set", "lr=nan"], "lr=nan: must be a number"),
        (["train", "digits", "--set", "epochs=0"], "epochs=0: must be a whole number, 1 to 10000"),
        (["train", "digits", "--set", "learning_rate=1"], "there is no key learning_rate"),
        (["train", "digits", "--set", "epohcs=1"], "did you mean epochs?"),
        (["train", "digits", "--set", "lr"], "lr: must be key=value"),
        (["train", "digit"], "there is no task digit; did you mean digits?"),
        (["train", "chess"], "tasks: tinynet, digits, text, lm, lora"),
        (["train"], "tasks: tinynet, digits, text, lm, lora"),
        (["train", "digits", "--lr", "1"], "unrecognized arguments: --lr 1"),
        (["fly"], "invalid choice: 'fly'"),
        ([], "required: COMMAND"),
        (
            ["train", "digits", "--set", "data.validation_fraction=0.5", "--set", "data.test_fraction=0.5"],
            "data.validation_fraction + data.test_fraction is 1: must be at most 0.8",
        ),
    ],
)
def test_wrong_input_ends_with_42_and_says_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 42
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRAINYARD_TRACKING_WAIT_S", "5m", "TRAINYARD_TRACKING_WAIT_S=5m: must be a number of seconds"),
        ("TRAINYARD_TRACKING_WAIT_S", "-1", "TRAINYARD_TRACKING_WAIT_S=-1: must be a number of seconds"),
        ("TRAINYARD_TRACKING_WAIT_S", "nan", "TRAINYARD_TRACKING_WAIT_S=nan: must be a number of seconds"),
        ("MLFLOW_TRACKING_URI", "mlflow:5000", "MLFLOW_TRACKING_URI=mlflow:5000: must be http://HOST:PORT"),
        ("MLFLOW_TRACKING_URI", "http:///x", "MLFLOW_TRACKING_URI=http:///x: must be http://HOST:PORT"),
        ("MLFLOW_TRACKING_URI", "./mlruns", "MLFLOW_TRACKING_URI=./mlruns: must be http://HOST:PORT"),
        ("MLFLOW_TRACKING_URI", "http://h:abc", "MLFLOW_TRACKING_URI=http://h:abc: must be http://HOST:PORT"),
        ("MLFLOW_TRACKING_URI", "http://[x", "MLFLOW_TRACKING_URI=http://[x: must be http://HOST:PORT"),
        ("MLFLOW_TRACKING_URI", "ftp://me:pw@h", "MLFLOW_TRACKING_URI=ftp://***@h: must be http://HOST:PORT"),
        ("WORLD_SIZE", "0", "WORLD_SIZE=0: must be 1 or more"),
        (
            "JOB_COMPLETION_INDEX",
            "1",
            "JOB_COMPLETION_INDEX=1 without WORLD_SIZE: start the pods of a Job by `trainyard launch",
        ),
        (
            "TRAINYARD_CHECKPOINT_URI",
            "gs://b/x",
            "TRAINYARD_CHECKPOINT_URI=gs://b/x: must be a directory or s3://BUCKET/PREFIX",
        ),
    ],
)
def test_a_wrong_environment_ends_with_42(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["train", "digits", "--set", "epochs=0"]) == 42
    error = capsys.readouterr().err
    assert said in error
    assert "epochs=0" in error, "mistakes of both kinds are shown together"


def test_help_of_a_task_explains_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--help"]) == 0
    printed = capsys.readouterr().out
    for field in fields_of(TASKS["digits"].config_type):
        assert field.meaning in printed
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{field.key} ")]
        assert f" {field.default} " in line


def test_list_names_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TASKS)
