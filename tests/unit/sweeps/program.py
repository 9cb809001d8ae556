"""What the trials of these tests run: `program.py SCORE STEPS`. It knows nothing of Trainyard but two files of its environment.

Each start is a line of $STARTS: trial, attempt's first step, score; each end a line of $STARTS.ended: the trial. Step by step it tells SCORE + 1/step, and keeps the step as
its checkpoint. In front of step s of trial t it waits for the file $GATES/t-s to go away, and says so in $GATES/t-s.reached.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(score: float, steps: int) -> int:
    trial = os.environ["TRAINYARD_TRIAL"]
    folder, gates = Path(os.environ["TRAINYARD_TRIAL_DIR"]), Path(os.environ["GATES"])
    checkpoint = gates / f"{trial}.step"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    with Path(os.environ["STARTS"]).open("a") as starts:
        starts.write(f"{trial} {step + 1} {score}\n")
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    while step < steps:
        gate = gates / f"{trial}-{step + 1}"
        while gate.exists() and not told:
            gate.with_suffix(".reached").touch()
            time.sleep(0.02)
        if told:
            return 75
        step += 1
        values = {"loss": score + 1 / step}
        if step == 1:
            values["size"] = 100 * score
        with (folder / "metrics.jsonl").open("a") as metrics:
            metrics.write(json.dumps({"step": 10 * step, "values": values}) + "\n")
        checkpoint.write_text(str(step))
    with Path(f"{os.environ['STARTS']}.ended").open("a") as ends:
        ends.write(f"{trial}\n")
    return int(os.environ.get("EXIT", "0"))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
