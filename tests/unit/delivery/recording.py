"""Writing a spool from the test's own process, which is in no danger."""

import uuid
from collections.abc import Sequence

from trainyard.spool.folder import SpoolFolder
from trainyard.spool.records import Start
from trainyard.spool.writer import SpoolWriter
from trainyard.tracking.spooled_run import SpooledRun

from tests.unit.delivery.crew import call, rehearsal
from tests.unit.delivery.plan import Call
from tests.unit.delivery.processes import Site


def begin(site: Site, name: str, experiment: str, uri: str) -> tuple[SpoolFolder, SpooledRun]:
    """A run that goes to MLflow, with small segments if inside `rehearsal`."""
    start = Start(
        uid=uuid.uuid4().hex,
        name=name,
        experiment=experiment,
        tags={},
        time_ms=1_700_000_000_000,
        backends=("mlflow",),
        settings={"MLFLOW_TRACKING_URI": uri},
    )
    writer = SpoolWriter.create(site.state / "spool", start, warn=print)
    return writer.folder, SpooledRun(writer, name=name, on_end=lambda _: None, warn=print)


def record(site: Site, name: str, experiment: str, uri: str, calls: Sequence[Call]) -> SpoolFolder:
    """A finished run that nobody has delivered."""
    with rehearsal():
        folder, run = begin(site, name, experiment, uri)
        for each in calls:
            call(run, each)
        run.end("FINISHED")
    return folder
