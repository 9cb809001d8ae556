"""Logs a step every 10 ms, printing each after it is logged, until /state/now appears; then it ends as it was told to.

argv: name of the run, and its fate: `end`, `raise`, `allocate` all memory, or `flood` (log 200 values a step as fast as it can).
"""

import sys
import time
from itertools import count
from pathlib import Path

import trainyard
from trainyard.tracking.run import Run

NOW = Path("/state/now")
FLOOD_STEPS = 950
FLOOD_VALUES = 200


def main(name: str, fate: str) -> None:
    """Log, and meet the fate."""
    with trainyard.run(experiment="faults", name=name, params={"fate": fate}) as run:
        for step in count():
            if NOW.exists():
                break
            run.log_metrics({"value": step, "twice": 2 * step}, step=step)
            print(step, flush=True)
            time.sleep(0.01)
        if fate == "flood":
            flood(run)
        if fate == "raise":
            raise RuntimeError("a bug in the training code")
        hoard = []
        while fate == "allocate":
            hoard.append(bytearray(2**20))


def flood(run: Run) -> None:
    """More than fits into the volume."""
    for step in range(FLOOD_STEPS):
        run.log_metrics({f"flood{number}": step for number in range(FLOOD_VALUES)}, step=step)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
