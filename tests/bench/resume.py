"""From the start of a process to its first new step after an interruption, beside a plain script that does the same by hand."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.bench.table import Row, show, verdict

_ROUNDS = 3
_STATE = Path("/var/tmp/resume")
_SETTINGS = ["--set", "epochs=1000", "--set", "checkpoint.every_steps=20", "--set", "checkpoint.every_minutes=0"]
_PLAIN = """
import sys, time
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

path = sys.argv[1]
digits = load_digits()
images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
labels = torch.from_numpy(digits.target)
c = 32
model = nn.Sequential(
    nn.Conv2d(1, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, 2 * c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(2 * c * 16, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10),
)
optimizer = torch.optim.AdamW(model.parameters())
if len(sys.argv) > 2:
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
loss = nn.functional.cross_entropy(model(images[:32]), labels[:32])
loss.backward()
optimizer.step()
print("step", flush=True)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
"""


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "TRAINYARD_JOB_UID": "bench",
        "TRAINYARD_STATE_DIR": str(_STATE),
        "TRAINYARD_TRACKING": "json",
    }


def _train() -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "trainyard", "train", "digits", *_SETTINGS]
    return subprocess.Popen(
        command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )


def _newest() -> str:
    """The newest checkpoint's name."""
    return max((path.name for path in _STATE.glob("checkpoints/*/step-*")), default="")


def _wait_for_newer(before: str) -> None:
    while _newest() <= before:
        time.sleep(0.01)


def _ours() -> float:
    """Seconds until the checkpoint after 20 new steps is there: more than the first new step, and visible from outside."""
    before = _newest()
    began = time.perf_counter()
    process = _train()
    _wait_for_newer(before)
    taken = time.perf_counter() - began
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    return taken


def _plain(path: Path) -> float:
    script = path.with_suffix(".py")
    script.write_text(_PLAIN)
    subprocess.run([sys.executable, str(script), str(path)], check=True, stdout=subprocess.DEVNULL)
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(script), str(path), "resume"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    taken = time.perf_counter() - began
    process.communicate()
    return taken


def main() -> None:
    """Measure and print."""
    shutil.rmtree(_STATE, ignore_errors=True)
    _STATE.mkdir()
    _ours()  # the first training, which makes what the others go on from
    ours = [_ours() for _ in range(_ROUNDS)]
    plain = [_plain(_STATE / "plain.pt") for _ in range(_ROUNDS)]
    shutil.rmtree(_STATE)
    seconds, peer = median(ours), median(plain)
    show(
        "An interrupted training goes on: from the start of its process to new steps (digits)",
        [
            Row(
                "first new steps after",
                f"{seconds:.1f} s",
                f"plain script: {peer:.1f} s",
                f"{peer / seconds:.2f}x",
                verdict("<= 15 s", seconds <= 15),
            )
        ],
        "Ours: run found, checkpoint verified and loaded, 20 steps and the next checkpoint done. The plain script: torch.load and one step.",
    )


if __name__ == "__main__":
    main()
