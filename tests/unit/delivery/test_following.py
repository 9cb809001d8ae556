"""A shipper that reads what is being written, at the worst of moments."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

from tests.unit.delivery.ambush import Ambush, lines_of
from tests.unit.delivery.crew import call, rehearsal
from tests.unit.delivery.plan import LogMetrics
from tests.unit.delivery.processes import Site
from tests.unit.delivery.recording import begin
from tests.unit.delivery.segments import cursor, records
from tests.unit.delivery.servers import Tracking
from tests.unit.delivery.verdict import Content
from tests.unit.images.image_containers import wait_until

_LOOKS_S = 1.2
"""Two of the shipper's looks at a spool that is being written."""
_DELIVERY = "shipping/delivery.py"
_LINES = 9
"""Of a look at the spool, from its first to the one that finds nothing."""


def test_a_record_that_is_half_written_is_waited_for(tracking: Tracking, site: Site, seed: int) -> None:
    """The shipper looks while the writer copies the bytes: what is not whole yet is no damage."""
    calls = [LogMetrics(step, 1_700_000_000_000 + step, (("key", 0.1 * step),)) for step in range(1, 4)]
    with rehearsal():
        folder, run = begin(site, f"half-{seed}", "half", tracking.uri)
        call(run, calls[0])
        call(run, calls[1])
        path = folder.segment(1)
        whole = path.read_bytes()
        last = records(whole)[-1]
        with path.open("r+b", buffering=0) as file:
            file.seek(last.end - 4)
            file.write(bytes(4))
            shipper = site.shipper(follow=True)
            wait_until(lambda: cursor(folder) == (1, last.start), "the shipper at the half of a record")
            time.sleep(_LOOKS_S)
            file.seek(last.end - 4)
            file.write(whole[last.end - 4 : last.end])
        call(run, calls[2])
        run.end("FINISHED")
    wait_until(folder.shipped.exists, f"the end of {site.last_words()}")
    shipper.kill()
    (found,) = tracking.runs("half").values()
    assert Content.stored(found) == Content.logged(calls)
    assert found.status == "FINISHED"


def test_what_is_written_while_the_shipper_is_held_up_is_not_passed_over(tracking: Tracking, tmp_path: Path) -> None:
    """It is stopped between two lines; meanwhile the writer logs its last, ends the run and is gone."""
    calls = [LogMetrics(step, 1_700_000_000_000 + step, (("key", 0.1 * step),)) for step in range(20)]
    with ExitStack() as stack:
        stack.enter_context(rehearsal())
        held = []
        for line in lines_of(_DELIVERY, "_once")[:_LINES]:
            site = stack.enter_context(Site(tmp_path / str(line), tracking.uri))
            folder, run = begin(site, f"held up at line {line}", "held up", tracking.uri)
            call(run, calls[0])
            # The third time, when it has delivered the first record and looks for more.
            shipper = site.shipper(follow=True, ambush=Ambush(_DELIVERY, line, 3, signal.SIGSTOP))
            held.append((folder, run, shipper))
        wait_until(lambda: all(cursor(folder)[1] for folder, _, _ in held), "a record of each run to be delivered")
        time.sleep(2 * _LOOKS_S)
        for _, run, shipper in held:
            for each in calls[1:]:
                call(run, each)
            run.end("FINISHED")
            shipper.send_signal(signal.SIGCONT)
        wait_until(lambda: all(folder.shipped.exists() for folder, _, _ in held), "the end of each delivery")
    runs = tracking.runs("held up").values()
    assert len(runs) == len(held)
    for stored in runs:
        content = Content.stored(stored)
        assert content == Content.logged(calls), (
            f"{stored.tags['mlflow.runName']}: {content.lacks(Content.logged(calls))}"
        )
        assert stored.status == "FINISHED", stored.tags["mlflow.runName"]
