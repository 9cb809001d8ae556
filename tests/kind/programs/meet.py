"""A trial of a few milliseconds that knows nothing of us: it ends when so many of them are there at the same time.

argv: how many, and `x`, which is its result too.
"""

import json
import os
import sys
import time
from pathlib import Path

PATIENCE_S = 180.0


def main(crowd: int, x: float) -> None:
    """Wait for the others, and tell the result."""
    place = Path(os.environ["TRAINYARD_STATE_DIR"], "meeting")
    place.mkdir(parents=True, exist_ok=True)
    (place / os.environ["TRAINYARD_POD_NAME"]).touch()
    began = time.monotonic()
    while (here := len(list(place.iterdir()))) < crowd:
        if time.monotonic() - began > PATIENCE_S:
            sys.exit(f"after {PATIENCE_S:.0f} s only {here} of {crowd} workers have a trial")
        time.sleep(0.1)
    with Path(os.environ["TRAINYARD_TRIAL_DIR"], "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps({"step": 1, "values": {"loss": x}}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
