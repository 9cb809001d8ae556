"""An interrupted training gives the same numbers as an undisturbed one: not nearly, the same bits."""

import random
from pathlib import Path

import pytest
import torch
from trainyard.checkpoint import CheckpointConfig

from tests.unit.trainer.checkpoints import BY_HAND, CrashError, StubRun, train

_STEPS = 21


@pytest.mark.parametrize(
    "config",
    [BY_HAND, CheckpointConfig(every_steps=3, every_minutes=0.0, keep_last=1)],
    ids=["saved where it ends", "crashed between two checkpoints"],
)
def test_same_bits(tmp_path: Path, config: CheckpointConfig) -> None:
    undisturbed = StubRun()
    weights = train(undisturbed, tmp_path / "undisturbed")
    assert {step for step, key in undisturbed.points if key == "loss"} == set(range(1, _STEPS + 1))

    seed = random.randrange(10**9)
    print(f"seed {seed}")
    run = StubRun()
    # The last step of an epoch and of all of them among them: what follows an epoch must not be lost, nor be done twice.
    ends = sorted({7, _STEPS, *random.Random(seed).sample(range(1, _STEPS), 4)})
    for crash_after in ends:
        with pytest.raises(CrashError):
            train(run, tmp_path / "interrupted", crash_after=crash_after, config=config)
    resumed = train(run, tmp_path / "interrupted", config=config)
    assert run.points == undisturbed.points
    assert resumed.keys() == weights.keys()
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())
