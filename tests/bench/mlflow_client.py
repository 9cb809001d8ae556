"""python -m tests.bench.mlflow_client URI POINTS: log them with MLflow's own client, 1,000 a request; prints the seconds."""

import sys
import time

from mlflow import MlflowClient
from mlflow.entities import Metric

from tests.bench.shipper import KEYS

_BATCH = 1000


def main(uri: str, points: int) -> None:
    """The points are those of the spool."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("bench-shipper")
    run_id = client.create_run(experiment.experiment_id).info.run_id
    now_ms = time.time_ns() // 1_000_000
    began = time.perf_counter()
    steps = _BATCH // len(KEYS)
    for first in range(0, points // len(KEYS), steps):
        batch = [Metric(key, step + 0.5, now_ms, step) for step in range(first, first + steps) for key in KEYS]
        client.log_batch(run_id, metrics=batch)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
