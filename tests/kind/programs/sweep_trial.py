"""A trial that starts at once: it logs a loss a step, and keeps beside the spool how far it is, so that it goes on from there.

argv: number of steps, seconds that each takes, and `x`, the parameter that is searched.
"""

import json
import os
import sys
import time
from pathlib import Path

import trainyard
from trainyard.interruption import of_this_process

EXPERIMENT = "sweep-trials"
PREEMPTED = 75


def loss(x: float, step: int) -> float:
    """Best at 0.3, and better from step to step."""
    return (x - 0.3) ** 2 + 1 / step


def main(steps: int, pause_s: float, x: float) -> None:
    """Log what is left of the steps."""
    interruption = of_this_process()
    with trainyard.run(EXPERIMENT, params={"x": x}) as run:
        trial = os.environ["TRAINYARD_TRIAL"]
        path = Path(os.environ["TRAINYARD_STATE_DIR"], "progress", f"{trial}.json")
        done = json.loads(path.read_text())["step"] if path.exists() else 0
        for step in range(done + 1, steps + 1):
            time.sleep(pause_s)
            run.log_metrics({"loss": loss(x, step)}, step=step)
            keep(path, {"trial": trial, "step": step, "pod": os.environ["TRAINYARD_POD_NAME"]})
            if interruption.requested and step < steps:
                raise SystemExit(PREEMPTED)


def keep(path: Path, progress: dict[str, object]) -> None:
    """Whole or not at all: the process may be killed at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_suffix(".new")
    hidden.write_text(json.dumps(progress) + "\n")
    hidden.rename(path)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
