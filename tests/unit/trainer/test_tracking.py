"""The border to MLflow, on a real database."""

import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from trainyard.errors import ConfigError
from trainyard.tracking.mlflow_run import MlflowRun, connect


class CountingClient:
    """A real client that counts its batches, and may lose an answer after the server has stored the data."""

    def __init__(self, uri: str) -> None:
        self._real = MlflowClient(uri)
        self.batches: list[int] = []
        self.lose_next_answer = False

    def log_batch(self, run_id: str, metrics: Any = (), **rest: Any) -> Any:
        done = self._real.log_batch(run_id, metrics=metrics, **rest)
        if metrics:
            self.batches.append(len(metrics))
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise MlflowException("connection reset")
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class RacingClient:
    """A real client that, when it finds no experiment, waits until the others have found none either."""

    def __init__(self, uri: str, together: threading.Barrier) -> None:
        self._real = MlflowClient(uri)
        self._together = together

    def get_experiment_by_name(self, name: str) -> Any:
        found = self._real.get_experiment_by_name(name)
        if found is None:
            self._together.wait(timeout=30)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for this file: making its tables takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"
    connect(uri)
    return uri


@pytest.fixture
def client(uri: str) -> CountingClient:
    return CountingClient(uri)


def start(client: Any, experiment: str = "e") -> MlflowRun:
    return MlflowRun.create(client, experiment=experiment, name="n", tags={"trainyard.job_uid": "u"})


def steps(client: CountingClient, run: MlflowRun) -> list[int]:
    return sorted(each.step for each in client.get_metric_history(run.run_id, "loss"))


def test_metrics_go_out_in_batches(client: CountingClient) -> None:
    run = start(client)
    for step in range(1, 2501):
        run.log_metrics({"loss": 1 / step}, step=step)
    run.finish("FINISHED", tags={})
    assert client.batches == [1000, 1000, 500]
    assert steps(client, run) == list(range(1, 2501))


def test_a_batch_sent_again_is_stored_once(client: CountingClient) -> None:
    run = start(client)
    for step in range(1, 11):
        run.log_metrics({"loss": 1 / step}, step=step)
    client.lose_next_answer = True
    with pytest.raises(MlflowException):
        run.flush()
    run.finish("FINISHED", tags={})
    assert client.batches == [10, 10]
    assert steps(client, run) == list(range(1, 11))


def test_runs_started_together_agree_on_a_new_experiment(client: CountingClient, uri: str) -> None:
    """MLflow's own set_experiment puts the losers of this race into experiment 0."""
    together = threading.Barrier(4)
    runs: list[MlflowRun] = []
    threads = [
        threading.Thread(target=lambda: runs.append(start(RacingClient(uri, together), "fresh"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = client.get_experiment_by_name("fresh").experiment_id
    assert [client.get_run(run.run_id).info.experiment_id for run in runs] == [fresh] * 4
    assert fresh != "0"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigError, match=rf"{tmp_path} is not writable; set MLFLOW_TRACKING_URI"):
        connect(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_deleted_experiment_is_named(client: CountingClient) -> None:
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(ConfigError, match=r"tracking\.experiment=gone: this experiment is deleted"):
        start(client, "gone")
