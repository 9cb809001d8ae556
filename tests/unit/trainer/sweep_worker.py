"""One attempt at a trial by a worker of a sweep: prints what the trial reports, and how it ended.

python sweep_worker.py REPORTED_STEP REASON PROGRAM ...: at the report of that step, the trial is stopped for that reason.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict

from trainyard.environment import JobEnvironment
from trainyard.interruption import of_this_process
from trainyard.sweeps.sweep import Constraint, Objective, Range, Sweep
from trainyard.sweeps.trial import TrialProcess

stop_at, stop_reason, *program = sys.argv[1:]


def on_report(step: int, values: Mapping[str, float]) -> str | None:
    print("report", step, json.dumps(values), flush=True)
    if step != int(stop_at):
        return None
    if stop_reason == "pruned":
        return stop_reason
    # As a heartbeat says so, while the main thread waits for the database.
    heartbeat = threading.Thread(target=trial.stop, args=(stop_reason,))
    heartbeat.start()
    heartbeat.join()
    return None


interruption = of_this_process()
trial = TrialProcess(
    Sweep(
        name="s",
        program=tuple(program),
        objectives=(Objective(name="loss"), Objective(name="score", goal="maximize")),
        parameters={"lr": Range(low=0.0, high=1.0)},
        constants={"epochs": 3},
        constraints=(Constraint(metric="size", max=9),),
    ),
    sweep_id="s-0123abcd",
    number="7",
    parameters={"lr": 0.5, "epochs": 3},
    parent_run_id="f00d",
    environ=os.environ,
    environment=JobEnvironment.read(os.environ),
    interruption=interruption,
    on_report=on_report,
    say=lambda text: print("said", text, flush=True),
)
print("outcome", json.dumps(asdict(trial.run()) | {"interrupted": interruption.requested}), flush=True)
