"""Points in the database == points logged, whoever is killed. TRAINYARD_ROUNDS sets how long that is tried."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from tests.unit.delivery.ambush import somewhere
from tests.unit.delivery.crew import Order
from tests.unit.delivery.plan import End
from tests.unit.delivery.processes import Crew, Site, end_of
from tests.unit.delivery.servers import Tracking
from tests.unit.delivery.verdict import judge

ROUNDS = int(os.environ.get("TRAINYARD_ROUNDS") or 3)
_WRITERS = 10
_SHIPPER_KILLS = 5
_WRITING = ("spool/writer.py", "spool/folder.py", "spool/space.py", "tracking/spooled_run.py", "tracking/session.py")
_SHIPPING = (
    "shipping/cursor.py",
    "shipping/delivery.py",
    "shipping/json_folder.py",
    "shipping/mlflow/backend.py",
    "shipping/mlflow/http.py",
    "shipping/mlflow/rest.py",
    "shipping/service.py",
    "shipping/shipper.py",
    "spool/folder.py",
    "spool/reader.py",
)

_LOOKING = ("shipping/delivery.py", "spool/reader.py", "spool/folder.py")
"""Where a shipper may be held up while the writer goes on, or dies."""


def _order(chance: random.Random, number: int) -> Order:
    """Every fourth writer ends by itself; the others meet a signal at some time, or at some line."""
    seed = chance.randrange(10**9)
    end: End = "finish" if chance.random() < 0.5 else "raise"
    match number % 4:
        case 0:
            return Order(seed, "finish" if number % 8 else "raise")
        case 1:
            return Order(seed, end, ambush=somewhere(chance, _WRITING))
        case 2:
            return Order(seed, end, ambush=somewhere(chance, _WRITING, signal.SIGTERM))
        case _:
            number = chance.choice((signal.SIGKILL, signal.SIGTERM))
            return Order(seed, "linger", signal=number, after_s=chance.choice((0.02, 0.2, 1)) * chance.random())


def _kill_shippers(chance: random.Random, site: Site) -> int:
    """One after the other, sometimes two at a time. Returns how many met an ambush."""
    ambushed = 0
    for _ in range(_SHIPPER_KILLS):
        shippers = [
            site.shipper(
                follow=chance.random() < 0.7,
                ambush=chance.choice((None, somewhere(chance, _SHIPPING), somewhere(chance, _LOOKING, signal.SIGSTOP))),
            )
            for _ in range(chance.choice((1, 1, 1, 2)))
        ]
        for shipper in shippers:
            ambushed += site.kill(shipper, chance.uniform(0, 0.8))
    return ambushed


def _round(chance: random.Random, tracking: Tracking, site: Site, experiment: str) -> str:
    orders = [_order(chance, number) for number in range(_WRITERS)]
    crew = Crew(site, experiment, orders)
    ambushed = _kill_shippers(chance, site)
    if chance.random() < 0.5:
        sidecar = site.sidecar()
        codes = crew.exit_codes()
        site.stop(sidecar)
    else:
        # Those that have finished wait until their record is delivered.
        while crew.at_work():
            end_of(site.shipper(follow=False))
        codes = crew.exit_codes()
        site.deliver_all()
    points = judge(tracking, site, experiment, orders, codes)
    return f"{points} points; ends of writers {dict(Counter(codes))}; {ambushed} shippers met an ambush"


def test_what_is_stored_is_what_was_logged(tracking: Tracking, tmp_path: Path, seed: int) -> None:
    for number in range(ROUNDS):
        began = time.monotonic()
        # A seed of its own for each: TRAINYARD_SEED=<that of a failed round> TRAINYARD_ROUNDS=1 repeats it.
        with Site(tmp_path / str(number), tracking.uri) as site:
            result = _round(random.Random(seed + number), tracking, site, f"kills-{seed + number}")
        print(f"round {number}, seed {seed + number}: {result}; {time.monotonic() - began:.1f} s", flush=True)
