"""Finding runs by their tags on a real server, in whichever experiment and on however many pages."""

import math

import pytest
from trainyard.shipping.mlflow import rest
from trainyard.shipping.mlflow.api import Point
from trainyard.shipping.mlflow.connection import connected

from tests.unit.delivery.servers import Tracking


def test_runs_are_found_by_their_tags_and_lose_them(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_PAGE", 2)
    with connected(tracking.uri) as mlflow:
        made = []
        for number in range(5):
            experiment = mlflow.experiment_id(f"search-{number}")
            tags = {"trainyard.sweep_id": "tries-1", "trainyard.trial": str(number)}
            made.append(mlflow.create_run(experiment, f"run {number}", 1_000 + number, tags).run_id)
        mlflow.create_run(experiment, "another sweep's", 5_000, {"trainyard.sweep_id": "tries-2"})
        mlflow.log_batch(made[0], [Point("loss", math.nan, 1, 1), Point("size", 3, 1, 1)], {"lr": "0.1"}, {})
        mlflow.update_run(made[0], "FINISHED", 9_000)

        found = mlflow.search_runs({"trainyard.sweep_id": "tries-1"})
        assert [run.run_id for run in found] == made[::-1], "the newest first"
        oldest = found[-1]
        assert (oldest.name, oldest.status, oldest.start_ms, oldest.end_ms) == ("run 0", "FINISHED", 1_000, 9_000)
        assert (oldest.params, oldest.tags["trainyard.trial"]) == ({"lr": "0.1"}, "0")
        assert math.isnan(oldest.metrics["loss"]) and oldest.metrics["size"] == 3
        assert found[0].end_ms is None
        assert [run.name for run in mlflow.search_runs({"trainyard.sweep_id": "tries-1", "trainyard.trial": "3"})] == [
            "run 3"
        ]

        for _ in range(2):  # the second time there is nothing to delete
            mlflow.delete_tag(made[3], "trainyard.trial")
        assert mlflow.search_runs({"trainyard.sweep_id": "tries-1", "trainyard.trial": "3"}) == []
