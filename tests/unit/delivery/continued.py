"""A training that may be stopped at any moment and goes on from its last checkpoint.

`python -m tests.unit.delivery.continued EXPERIMENT NAME CHECKPOINT [AMBUSH]`. Its checkpoint is the number of a step.
"""

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import trainyard

from tests.unit.delivery.ambush import Ambush, lay
from tests.unit.delivery.crew import rehearsal

STEPS = 1500
_SAVED_EVERY = 13
_PREEMPTED = 75


def values(step: int) -> dict[tuple[str, int], float]:
    """What is logged after a step: by metric and the step that it is logged at. The same each time."""
    every = {("train/loss", step): 1 / step, ("train/step", step): float(step)}
    if step % 10 == 0:
        every["validation/loss", step // 10] = 10 / step
    return every


def main(experiment: str, name: str, checkpoint: Path, ambush: str = "") -> None:
    """Train to the end, or leave with 75 after SIGTERM."""
    told: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    signal.signal(signal.SIGTERM, remember)
    if ambush:
        lay(Ambush(**json.loads(ambush)))
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    with rehearsal(), trainyard.run(experiment, name=name, params={"steps": STEPS}) as run:
        for step in range(done + 1, STEPS + 1):
            for (key, at), value in values(step).items():
                run.log_metrics({key: value}, step=at)
            time.sleep(0.001)
            if told or step % _SAVED_EVERY == 0:
                run.sync()
                hidden = checkpoint.with_suffix(".new")
                hidden.write_text(str(step))
                hidden.rename(checkpoint)
            if told:
                sys.exit(_PREEMPTED)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
