"""`trainyard train lm`, then `trainyard train lora`, on a laptop: the base comes from the registry."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from trainyard.errors import ConfigError, TrackingError, TrainyardError
from trainyard.tasks.lora.registry import fetch_model

from tests.unit.trainer.conftest import Laptop
from tests.unit.trainer.lm_trainings import SMALL, SMALL_MODEL
from tests.unit.trainer.stub_mlflow import StubMlflow, refusal, serving


def _sets(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """Where both were trained."""
    laptop = Laptop(tmp_path_factory.mktemp("laptop"))
    ended = laptop.train("lm", *_sets(*SMALL, *SMALL_MODEL, "tracking.variant=smoke"))
    assert ended.code == 0, ended.stderr
    ended = laptop.train("lora", *_sets(*SMALL))
    assert ended.code == 0, ended.stderr
    assert "Downloading" not in ended.stderr
    return laptop


def _run(laptop: Laptop, experiment: str) -> Run:
    (run,) = laptop.runs(experiment)
    return run


def _predict(laptop: Laptop, name: str) -> tuple[int, ...]:
    mlflow.set_tracking_uri(laptop.uri)
    model = mlflow.pyfunc.load_model(f"models:/{name}@challenger")
    return tuple(model.predict(np.full((3, 16), ord("a"), dtype=np.int64)).shape)


def test_the_base_is_registered_and_predicts(laptop: Laptop) -> None:
    run = _run(laptop, "lm")
    assert run.info.run_name.startswith("gpt_lm_")
    assert run.info.run_name.endswith("_smoke")
    assert run.data.metrics["tokens_per_second"] > 0
    assert laptop.client.get_model_version_by_alias("gpt", "challenger").version == 1
    assert _predict(laptop, "gpt") == (3, 16, 256)


def test_the_adapter_is_registered_with_the_base_it_belongs_to(laptop: Laptop) -> None:
    run = _run(laptop, "lora")
    assert run.data.tags["trainyard.base"] == "models:/gpt/1"
    assert run.data.tags["trainyard.base_hash"] == _run(laptop, "lm").data.tags["trainyard.parameter_hash"]
    assert run.data.metrics["validation/loss"] < run.data.metrics["validation/base_loss"]
    assert laptop.client.get_model_version_by_alias("gpt-lora", "challenger").version == 1
    assert _predict(laptop, "gpt-lora") == (3, 16, 256)


def test_the_adapter_is_an_artifact_of_its_run(laptop: Laptop) -> None:
    folder = Path(laptop.client.download_artifacts(_run(laptop, "lora").info.run_id, "adapter"))
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(("experiment", "source"), [("lm", "language reference"), ("lora", "standard library")])
def test_the_text_is_described(laptop: Laptop, experiment: str, source: str) -> None:
    path = laptop.client.download_artifacts(_run(laptop, experiment).info.run_id, "dataset.json")
    assert json.loads(Path(path).read_text())["source"] == source


@pytest.fixture
def asked(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry that is asked is the laptop's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", laptop.uri)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("uri", ["models:/gpt@challenger", "models:/gpt/1"])
def test_an_alias_or_a_version_names_a_model(uri: str, tmp_path: Path) -> None:
    fetched = fetch_model("base.model", uri, tmp_path)
    assert fetched.name == "models:/gpt/1"
    assert (fetched.folder / "base/model.safetensors").is_file()


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/gtp@challenger", "registered models: gpt, gpt-lora; train one with `trainyard train lm`"),
        ("models:/gpt@champion", "gpt has the versions 1 and the aliases challenger = 1"),
        ("models:/gpt/7", "gpt has the versions 1 and the aliases challenger = 1"),
        ("models:gpt", "must be models:/NAME@ALIAS, models:/NAME/VERSION or a directory"),
    ],
)
def test_a_model_that_does_not_exist_is_told_with_those_that_do(uri: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        fetch_model("base.model", uri, tmp_path)
    assert str(raised.value).startswith(f"base.model={uri}: ")
    assert message in str(raised.value)


def test_a_wrong_base_ends_with_42(laptop: Laptop) -> None:
    ended = laptop.train("lora", *_sets(*SMALL, "base.model=models:/gpt@champion"))
    assert ended.code == 42
    assert "challenger = 1" in ended.stderr


@pytest.mark.usefixtures("asked")
def test_files_that_are_gone_are_no_mistake_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> str:
        raise FileNotFoundError("no such file: model.pt2")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", gone)
    with pytest.raises(TrackingError, match="the files of version 1 cannot be read: no such file"):
        fetch_model("base.model", "models:/gpt/1", tmp_path)


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 does not answer"):
        fetch_model("base.model", "models:/gpt@challenger", tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (401, "UNAUTHENTICATED", ConfigError, "refuses: .*who are you.*; check MLFLOW_TRACKING_USERNAME"),
        (403, "PERMISSION_DENIED", ConfigError, "refuses: .*who are you.*; check MLFLOW_TRACKING_USERNAME"),
        (400, "BAD_REQUEST", TrackingError, "did not give the model: .*who are you"),
    ],
)
def test_a_server_that_refuses_is_quoted(
    status: int,
    code: str,
    error: type[TrainyardError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(StubMlflow(fail=lambda _path, _body: refusal(status, code, "who are you"))) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        with pytest.raises(error, match=message):
            fetch_model("base.model", "models:/gpt@challenger", tmp_path)
