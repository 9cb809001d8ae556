"""Servers that go away in the middle, and answers that are lost."""

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing

import psycopg2

from tests.unit.delivery.crew import Order
from tests.unit.delivery.processes import Crew, Site
from tests.unit.delivery.servers import Tracking
from tests.unit.delivery.verdict import judge
from tests.unit.images.image_containers import wait_for_postgres, wait_until


def _restart_mlflow(tracking: Tracking) -> None:
    tracking.mlflow.kill()
    tracking.mlflow.start()
    tracking.wait_ready()


def _restart_postgres(tracking: Tracking) -> None:
    tracking.postgres.container.stop()
    time.sleep(0.5)
    tracking.postgres.container.start()
    wait_for_postgres(tracking.postgres.container)


def _survive(outage: Callable[[Tracking], None], tracking: Tracking, site: Site, chance: random.Random) -> None:
    """Writers and shippers at work, and being killed, while servers are gone."""
    orders = [
        Order(chance.randrange(10**9), "linger", signal=signal.SIGKILL, after_s=chance.uniform(0, 4)) for _ in range(4)
    ]
    orders += [Order(chance.randrange(10**9), "finish" if number else "raise") for number in range(4)]
    crew = Crew(site, outage.__name__, orders)
    shipper = site.shipper(follow=True)
    time.sleep(chance.uniform(0.3, 0.9))
    away = threading.Thread(target=outage, args=(tracking,))
    away.start()
    while away.is_alive():
        site.kill(shipper, chance.uniform(0.3, 1.5))
        shipper = site.shipper(follow=True)
    shipper.kill()
    shipper.wait()
    sidecar = site.sidecar()
    codes = crew.exit_codes()
    site.stop(sidecar)
    judge(tracking, site, outage.__name__, orders, codes)


def test_a_killed_mlflow_server_costs_nothing(tracking: Tracking, site: Site, chance: random.Random) -> None:
    _survive(_restart_mlflow, tracking, site, chance)


def test_a_restarted_postgres_costs_nothing(tracking: Tracking, site: Site, chance: random.Random) -> None:
    _survive(_restart_postgres, tracking, site, chance)
    tracking.wait_ready()


def test_a_run_that_is_made_after_its_shipper_was_killed_stays_the_only_one(
    tracking: Tracking, site: Site, seed: int
) -> None:
    """MLflow makes the run when nobody waits for it any more; the next shipper has found none, and has made another."""
    orders = [Order(seed, "linger", signal=signal.SIGKILL, after_s=0.5)]
    codes = Crew(site, "made late", orders).exit_codes()
    with closing(psycopg2.connect(tracking.postgres.dsn("mlflow", "mlflow"))) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE runs IN SHARE MODE")
        for attempt in (1, 2):
            shipper = site.shipper(follow=True)
            wait_until(lambda attempt=attempt: _waiting(tracking) == attempt, "a run that waits to be made")  # type: ignore[misc]
            shipper.kill()
            shipper.wait()
        blocker.rollback()
    site.deliver_all()
    judge(tracking, site, "made late", orders, codes)


def _waiting(tracking: Tracking) -> int:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    return int(tracking.query(waiting, "INSERT INTO runs%")[0][0])
