"""python -m tests.bench.trial X [trainyard|wandb]: what a trial of the bench runs; it takes no time itself.

It notes when its first step is done and when it ends, in the file BENCH_NOTES, and tells one value: to the run of the tracker that
is named; without one by a line of its own, with nothing imported but Python's standard library. X may begin with `--x=`.
"""

import json
import os
import sys
import time


def main(x: float, tracker: str) -> None:
    """One step."""
    loss = (x - 0.3) ** 2
    if tracker == "trainyard":
        import trainyard

        with trainyard.run("bench-sweeps") as run:
            run.log_metrics({"loss": loss}, step=1)
            stepped = time.time()
    elif tracker == "wandb":
        import wandb

        with wandb.init() as run:
            run.log({"loss": loss}, step=1)
            stepped = time.time()
    else:
        if folder := os.environ.get("TRAINYARD_TRIAL_DIR"):
            _append(f"{folder}/metrics.jsonl", {"step": 1, "values": {"loss": loss}})
        print(loss)
        stepped = time.time()
    _append(os.environ["BENCH_NOTES"], {"stepped": stepped, "ended": time.time()})


def _append(path: str, content: object) -> None:
    """In one write, since several may write at the same time."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, json.dumps(content).encode() + b"\n")
    os.close(file)


if __name__ == "__main__":
    main(float(sys.argv[1].removeprefix("--x=")), sys.argv[2] if len(sys.argv) > 2 else "")
