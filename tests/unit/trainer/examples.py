"""The scripts of trainer/examples as processes: to their end, and stopped from outside at a step of one's choice."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from tests.unit.trainer.conftest import Ended, Laptop

FOLDER = Path(__file__).parents[3] / "trainer/examples"
JOB = {"TRAINYARD_TRACKING": "json", "TRAINYARD_JOB_UID": "a-job"}
# Says when it has recorded the step, and waits there for a signal, or for the file `go`.
_STOPPING = """
import runpy, sys, time
from pathlib import Path
from trainyard.interruption import of_this_process
from trainyard.spool.writer import SpoolWriter

script, stop = sys.argv[1], int(sys.argv[2])
record = SpoolWriter.metrics

def metrics(writer, values, *, step):
    record(writer, values, step=step)
    if step == stop and not of_this_process().requested:
        print("recorded the step", flush=True)
        while not of_this_process().requested and not Path("go").exists():
            time.sleep(0.01)

SpoolWriter.metrics = metrics
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
"""


def finished(laptop: Laptop, script: Path, **environment: str) -> Ended:
    """The script, which ends with 0."""
    ended = laptop.wait(laptop.python(str(script), **JOB, **environment))
    assert ended.code == 0, ended.stderr
    return ended


def stopping(laptop: Laptop, script: Path, step: int, **environment: str) -> "subprocess.Popen[str]":
    """The script, which has recorded `step` and waits for a signal."""
    stopping = laptop.folder / "stopping.py"
    stopping.write_text(_STOPPING)
    process = laptop.python(str(stopping), str(script), str(step), **JOB, **environment)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "recorded the step" in line:
            return process
    raise AssertionError(f"ended before step {step}: {said} {process.communicate()}")


def stopped(laptop: Laptop, script: Path, step: int, number: signal.Signals, *, beyond: str = "") -> Ended:
    """The script, stopped at `step`, once there is a checkpoint called `beyond`."""
    process = stopping(laptop, script, step)
    deadline = time.monotonic() + 60
    while beyond and not list(laptop.folder.glob(f".trainyard/checkpoints/*/{beyond}")):
        assert time.monotonic() < deadline, f"no {beyond}"
        time.sleep(0.01)
    process.send_signal(number)
    return laptop.wait(process)


def measured(laptop: Laptop) -> dict[tuple[str, int], float]:
    """Value of each metric at each step of the one run that there is, times and speeds apart. Each must be there once."""
    points = [
        (key, step, value)
        for step, key, value in laptop.json_run()["points"]
        # The summary is that of the last process.
        if not key.endswith(("runtime", "per_second", "total_flos", "train_loss"))
    ]
    found = {(key, step): value for key, step, value in points}
    assert len(found) == len(points)
    return found


def same_weights(one: Path, other: Path) -> bool:
    """Of two files that `torch.save` wrote, bit by bit."""
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def status(laptop: Laptop) -> Any:
    """Of the one run."""
    return laptop.json_run()["status"]
