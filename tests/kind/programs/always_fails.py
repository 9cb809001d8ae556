"""Logs a step more in each pod, and then meets its bug."""

import trainyard

with trainyard.run(experiment="faults", name="always-fails") as run:
    run.log_metrics({"value": 1.0}, step=1)
    raise RuntimeError("a bug that no retry mends")
