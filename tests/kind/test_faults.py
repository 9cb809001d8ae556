"""Each part of the platform is killed in turn, and nothing that was stored is lost."""

from __future__ import annotations

from typing import Any

import pytest
from local_cluster.settings import RELEASE

from tests.kind.platform import Platform


def record(platform: Platform) -> dict[str, Any]:
    """Everything stored so far: rows of Postgres, bytes of the object store."""
    tables = ("experiments", "runs", "params", "tags", "metrics", "latest_metrics", "model_versions", "logged_models")
    return {
        "rows": {
            table: platform.sql(f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
            for table in tables
        },
        "objects": platform.s3_objects(),
    }


@pytest.mark.parametrize("component", ["mlflow", "postgres", "objectstore"])
def test_a_killed_component_comes_back_and_nothing_is_lost(platform: Platform, component: str) -> None:
    for name in platform.training_jobs():
        platform.job_end(name)
    before = record(platform)
    assert before["objects"], "there must be something to lose"
    selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
    (old,) = [pod["metadata"]["uid"] for pod in platform.objects("pods", selector)]
    platform.kubectl("delete", "pod", "--selector", selector, "--grace-period=0", "--force")
    platform.wait_for(
        f"a new {component} pod",
        lambda: old not in {pod["metadata"]["uid"] for pod in platform.objects("pods", selector)},
    )
    platform.wait_ready()
    # Compared before anything is written, so that the record is the killed component's own.
    platform.wait_for("the same record as before", lambda: record(platform) == before, 60)
    created = platform.mlflow("POST", "runs/create", experiment_id="0", start_time=1)["run"]["info"]["run_id"]
    platform.mlflow("POST", "runs/log-metric", run_id=created, key="alive", value=1.0, timestamp=1, step=1)
    assert platform.history(created, "alive") == [(1, 1.0)]
    platform.mlflow("POST", "runs/delete", run_id=created)
