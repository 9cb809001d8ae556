"""A run in MLflow: made, written to, read back and deleted again."""

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from trainyard.doctor.examination import Check, Doubt, Trouble
from trainyard.doctor.trial import trial_start
from trainyard.shipping.backend import Retry
from trainyard.shipping.mlflow.api import MlflowApi, MlflowRun, Point, Refused

_RUN: Final = "mlflow run"
_ARTIFACT: Final = "doctor.bin"
_BYTES: Final = bytes(range(256)) * 4
"""Every byte there is: what a proxy translates or cuts shows."""


class Store(Protocol):
    """One MLflow. Every call raises Retry or Refused."""

    api: MlflowApi

    def history(self, run_id: str, key: str) -> Sequence[Point]:
        """What is stored of a metric."""

    def refuse_lost_artifacts(self, run: MlflowRun) -> None:
        """Raises Trouble if they would go where the server does not find them."""

    def artifact(self, run: MlflowRun, name: str) -> bytes:
        """What is stored as that artifact."""

    def discard(self, run: MlflowRun, name: str | None) -> None:
        """Delete the run, and its artifact if there is one."""


def run_checks(
    connect: Callable[[], Store], *, needs: str, explain: Callable[[Exception], Trouble], limit_s: float
) -> Sequence[Check]:
    """In the order in which they make sense. `explain`: a refusal as what to do about it."""
    trial = Trial(connect, explain)
    return (
        Check(name=_RUN, look=trial.create, needs=[needs], limit_s=limit_s),
        Check(name="mlflow metric", look=trial.write_metric, needs=[_RUN]),
        Check(name="mlflow artifact", look=trial.write_artifact, needs=[_RUN]),
        Check(name="mlflow clean-up", look=trial.discard, needs=[_RUN], cleans_up=True),
    )


@dataclass(slots=True)
class Trial:
    """The run, as far as it has come."""

    connect: Callable[[], Store]
    explain: Callable[[Exception], Trouble]
    store: Store | None = None
    run: MlflowRun | None = None
    uploaded: bool = False

    def create(self) -> str:
        """The run itself."""
        start = trial_start()
        with self._explained():
            self.store = self.connect()
            experiment = self.store.api.experiment_id(start.experiment)
            tags = {"mlflow.source.name": "trainyard doctor", "trainyard.host": socket.gethostname()}
            self.run = self.store.api.create_run(experiment, start.name, start.time_ms, tags)
        return f"{start.name} made in experiment {start.experiment}"

    def write_metric(self) -> str:
        """One point there and back."""
        store, run = self._made()
        point = Point("doctor", 0.1, time.time_ns() // 1_000_000, 7)
        with self._explained():
            store.api.log_batch(run.run_id, [point], {}, {})
            stored = list(store.history(run.run_id, point.key))
        if stored != [point]:
            raise Trouble(f"written: {point}; read back: {stored}", "look at the log of the MLflow server")
        return f"a point was written and read back from run {run.run_id}"

    def write_artifact(self) -> str:
        """One file there and back."""
        store, run = self._made()
        store.refuse_lost_artifacts(run)
        with self._explained(), tempfile.TemporaryDirectory() as folder:
            file = Path(folder, _ARTIFACT)
            file.write_bytes(_BYTES)
            # Before it is known to have worked: half a file is to be deleted as well.
            self.uploaded = True
            store.api.upload(run.artifact_uri, _ARTIFACT, file)
            stored = store.artifact(run, _ARTIFACT)
        if stored != _BYTES:
            raise Trouble(
                f"{len(_BYTES)} bytes were written to {run.artifact_uri}, and {len(stored)} other ones read back",
                "look at the artifact store, and at proxies between here and there",
            )
        return f"{len(_BYTES)} bytes were written to {run.artifact_uri} and read back"

    def discard(self) -> str:
        """Leave nothing behind."""
        if self.store is None or self.run is None:
            return "nothing to delete"
        try:
            self.store.api.update_run(self.run.run_id, "FINISHED", time.time_ns() // 1_000_000)
            self.store.discard(self.run, _ARTIFACT if self.uploaded else None)
        except (Retry, Refused) as trouble:
            raise Doubt(
                f"run {self.run.run_id} could not be deleted: {trouble}",
                "delete it by hand; recording needs no deleting",
            ) from trouble
        return f"run {self.run.run_id} deleted"

    def _made(self) -> tuple[Store, MlflowRun]:
        assert self.store is not None
        assert self.run is not None
        return self.store, self.run

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (Retry, Refused) as trouble:
            raise self.explain(trouble) from trouble
