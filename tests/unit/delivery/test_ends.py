"""How a run ended, as MLflow tells it."""

import signal

from tests.unit.delivery.crew import Order
from tests.unit.delivery.processes import Crew, Site
from tests.unit.delivery.servers import Tracking
from tests.unit.delivery.verdict import judge


def test_each_end_is_told_truthfully(tracking: Tracking, site: Site, seed: int) -> None:
    orders = [
        Order(seed, "finish"),
        Order(seed + 1, "raise"),
        Order(seed + 2, "linger", signal=signal.SIGTERM, after_s=1),
        Order(seed + 3, "linger", signal=signal.SIGKILL, after_s=1),
    ]
    crew = Crew(site, "ends", orders)
    sidecar = site.sidecar()
    codes = crew.exit_codes()
    site.stop(sidecar)
    assert codes == [0, 1, 143, -9]
    judge(tracking, site, "ends", orders, codes)
    ends = {(run.status, run.tags["trainyard.end_reason"]) for run in tracking.runs("ends").values()}
    assert ends == {("FINISHED", "finished"), ("FAILED", "failed"), ("KILLED", "interrupted"), ("FAILED", "lost")}
