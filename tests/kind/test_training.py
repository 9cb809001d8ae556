"""Training Jobs, the chart's and a researcher's: what they log is read back over REST, S3 and SQL."""

from __future__ import annotations

import json
from typing import Any

import pytest
from local_cluster.settings import REPOSITORY

from tests.kind.platform import Platform, manifest, metrics, params, tags

EPOCH_METRICS = ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy")
STEP_METRICS = ("train/loss_step", "train/accuracy_step")
ARTIFACTS = {"confusion_matrix.png", "sample_predictions.json", "environment.json", "config.yaml"}


@pytest.fixture(scope="module", params=["chart", "kubectl"])
def finished(request: pytest.FixtureRequest, platform: Platform) -> dict[str, Any]:
    """The run of a training Job that has ended well: the chart's, and the one of k8s/."""
    if request.param == "kubectl":
        platform.kubectl("delete", "--ignore-not-found", "--filename", manifest("01-train-digits.yaml"))
        platform.kubectl("apply", "--filename", manifest("01-train-digits.yaml"))
        name = "train-digits"
    else:
        (name,) = platform.training_jobs()
    assert platform.job_end(name) == "Complete"
    return platform.run_of_job(name)


def test_the_run_is_finished_and_says_where_it_comes_from(finished: dict[str, Any]) -> None:
    assert finished["info"]["status"] == "FINISHED"
    assert finished["info"]["run_name"].startswith("cnn_digits_")
    found = tags(finished)
    assert {"trainyard.job_uid", "trainyard.job_name", "trainyard.config_hash", "trainyard.dataset_version"} <= set(
        found
    )
    # The chart knows the image; a manifest with nothing but the client contract does not say it.
    assert found.get("trainyard.image", "trainyard/trainer").startswith("trainyard/trainer")


def test_the_model_has_learned(finished: dict[str, Any]) -> None:
    assert metrics(finished)["test/accuracy"] > 0.95


def test_every_step_and_every_epoch_is_there_once(platform: Platform, finished: dict[str, Any]) -> None:
    run_id = finished["info"]["run_id"]
    epochs = int(params(finished)["epochs"])
    for key in EPOCH_METRICS:
        assert [step for step, _ in platform.history(run_id, key)] == list(range(1, epochs + 1)), key
    counts = set()
    for key in STEP_METRICS:
        steps = [step for step, _ in platform.history(run_id, key)]
        assert steps == list(range(1, len(steps) + 1)), key
        counts.add(len(steps))
    assert len(counts) == 1
    assert counts.pop() % epochs == 0


def test_rows_in_postgres_are_the_points_that_rest_shows(platform: Platform, finished: dict[str, Any]) -> None:
    run_id = finished["info"]["run_id"]
    stored = dict(platform.sql(f"SELECT key, count(*) FROM metrics WHERE run_uuid = '{run_id}' GROUP BY key"))
    assert stored == {key: str(len(platform.history(run_id, key))) for key in metrics(finished)}
    assert platform.sql(f"SELECT count(*) FROM params WHERE run_uuid = '{run_id}'") == [[str(len(params(finished)))]]


def test_artifacts_in_the_store_are_the_bytes_that_the_server_gives(
    platform: Platform, finished: dict[str, Any]
) -> None:
    run_id = finished["info"]["run_id"]
    prefix = f"artifacts/{finished['info']['experiment_id']}/{run_id}/artifacts/"
    stored = {
        name.removeprefix(prefix): body for name, body in platform.s3_objects().items() if name.startswith(prefix)
    }
    assert set(stored) >= ARTIFACTS
    for name in ARTIFACTS:
        assert platform.download(run_id, name) == stored[name], name
    assert stored["confusion_matrix.png"].startswith(b"\x89PNG")
    assert len(json.loads(stored["sample_predictions.json"])) > 0


def test_the_model_is_registered_and_carries_the_challenger_alias(platform: Platform, finished: dict[str, Any]) -> None:
    versions = platform.mlflow("GET", "model-versions/search", filter="name = 'digits'")["model_versions"]
    assert finished["info"]["run_id"] in {version["run_id"] for version in versions}
    newest = max(versions, key=lambda version: int(version["version"]))
    alias = platform.mlflow("GET", "registered-models/alias", name="digits", alias="challenger")["model_version"]
    assert alias["version"] == newest["version"]


def start(platform: Platform, name: str, *arguments: str) -> None:
    """Run the Job of k8s/ under another name and with other arguments."""
    text = (REPOSITORY / "k8s/01-train-digits.yaml").read_text()
    job = json.loads(platform.kubectl("create", "--dry-run=client", "--output=json", "--filename=-", stdin=text))
    job["metadata"]["name"] = name
    job["spec"]["template"]["spec"]["containers"][0]["args"] = ["train", "digits", *arguments]
    platform.kubectl("delete", "job", name, "--ignore-not-found")
    platform.apply(job)


def test_a_wrong_key_fails_the_job_at_once_and_names_it(platform: Platform) -> None:
    start(platform, "train-typo", "--set", "learning_rat=0.1")
    assert platform.job_end("train-typo", timeout_s=90) == "Failed"
    pods = platform.objects("pods", "batch.kubernetes.io/job-name=train-typo")
    assert [pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for pod in pods] == [42]
    log = platform.kubectl("logs", pods[0]["metadata"]["name"])
    assert "learning_rat=0.1: there is no key learning_rat" in log
    assert "lr" in log
    platform.kubectl("delete", "job", "train-typo")


def test_jobs_that_start_together_on_a_new_experiment_all_land_in_it(platform: Platform) -> None:
    names = [f"train-race-{index}" for index in range(3)]
    for name in names:
        start(platform, name, "--set", "epochs=1", "--set", "tracking.experiment=race")
    for name in names:
        assert platform.job_end(name) == "Complete"
        assert platform.run_of_job(name, "race")["info"]["status"] == "FINISHED"
    assert platform.runs("Default") == []
    platform.kubectl("delete", "job", *names)
