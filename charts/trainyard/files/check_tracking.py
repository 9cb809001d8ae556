"""The check that `helm test` runs: a run with a parameter, a metric and an artifact, written, read back and removed.

Knows nothing but the client contract (MLFLOW_TRACKING_URI in the environment). Exit code 0: all came back as written;
1: something did not, and the last line says what.
"""

import os
import secrets
import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Experiment, ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

EXPERIMENT = "trainyard-helm-test"
PARAMETER = "purpose"
METRIC = "check"
ARTIFACT_BYTES = 1 << 20


def main() -> int:
    """Runs the check and says what it did."""
    client = MlflowClient()
    print(f"tracking server: {os.environ['MLFLOW_TRACKING_URI']}")
    experiment = open_experiment(client)
    try:
        check(client, experiment)
    except CheckError as error:
        print(f"FAILED: {error}")
        return 1
    finally:
        # Deleted experiments keep their name, so the next check takes this one up again instead of leaving another.
        client.delete_experiment(experiment.experiment_id)
        print(f"deleted experiment {EXPERIMENT}")
    return 0


class CheckError(Exception):
    """What was read back is not what was written."""


def open_experiment(client: MlflowClient) -> Experiment:
    """The experiment of these checks: restored if an earlier check deleted it, else created."""
    known = [e for e in client.search_experiments(view_type=ViewType.ALL) if e.name == EXPERIMENT]
    if not known:
        return client.get_experiment(client.create_experiment(EXPERIMENT))
    if known[0].lifecycle_stage == "deleted":
        client.restore_experiment(known[0].experiment_id)
    return known[0]


def check(client: MlflowClient, experiment: Experiment) -> None:
    """Logs one run, reads it back and deletes it with its artifact. Raises CheckError on the first difference."""
    value = secrets.randbelow(1_000_000) / 1000
    content = secrets.token_bytes(ARTIFACT_BYTES)
    run = client.create_run(experiment.experiment_id, run_name="helm-test")
    run_id = run.info.run_id
    try:
        client.log_param(run_id, PARAMETER, "helm test")
        client.log_metric(run_id, METRIC, value, step=1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "random.bin")
            path.write_bytes(content)
            client.log_artifact(run_id, str(path))
            path.unlink()
            returned = Path(download_artifacts(run_id=run_id, artifact_path="random.bin", dst_path=folder)).read_bytes()
        client.set_terminated(run_id)
        logged = client.get_run(run_id)
        print(f"logged run {run_id}: one parameter, one metric, one artifact of {ARTIFACT_BYTES} bytes")
        expect("status", logged.info.status, "FINISHED")
        expect("parameters", logged.data.params, {PARAMETER: "helm test"})
        expect("metrics", logged.data.metrics, {METRIC: value})
        if returned != content:
            raise CheckError(
                f"the artifact came back with {len(returned)} bytes that differ from the {len(content)} sent"
            )
        print("read back: all equal")
    finally:
        get_artifact_repository(run.info.artifact_uri).delete_artifacts("random.bin")
        client.delete_run(run_id)
        print(f"deleted run {run_id} and its artifact")


def expect(what: str, seen: object, wanted: object) -> None:
    """Raises CheckError unless what was read equals what was written."""
    if seen != wanted:
        raise CheckError(f"{what}: wrote {wanted!r}, read {seen!r}")


if __name__ == "__main__":
    sys.exit(main())
