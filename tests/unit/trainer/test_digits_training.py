"""Training itself, recorded in memory: what is learnt, and that it is learnt again."""

from collections.abc import Mapping
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import pytest
from trainyard.config import configure
from trainyard.interruption import Interruption
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.tasks.digits.train import DigitsTrainer
from trainyard.tracking.run import NoRun

from tests.unit.trainer.conftest import SETTINGS, TrainedOnce

Recorded = dict[tuple[str, int], float]


class MemoryRun(NoRun):
    """Keeps metrics and the model in memory, and drops the rest."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.metrics: Recorded = {}
        self.model: Any = None

    def log_metrics(self, metrics: Mapping[str, SupportsFloat | SupportsIndex], *, step: int) -> None:
        for key, value in metrics.items():
            assert (key, step) not in self.metrics, "recorded twice"
            self.metrics[key, step] = float(value)

    def log_model(self, model: object, **_: Any) -> None:
        self.model = model


def train(*overrides: str) -> MemoryRun:
    run = MemoryRun()
    DigitsTrainer(configure(DigitsConfig, overrides)).train(run, Interruption(), say=lambda _: None)
    return run


def test_the_defaults_reach_more_than_95_percent_on_the_test_part() -> None:
    run = train()
    (accuracy,) = (value for (key, _), value in run.metrics.items() if key == "test/accuracy")
    assert accuracy > 0.95


def test_the_same_seed_gives_the_same_numbers_in_another_process(trained: TrainedOnce) -> None:
    again = train(*SETTINGS[2::2]).metrics
    client, run_id = trained.laptop.client, trained.run.info.run_id
    for name in trained.run.data.metrics:
        first = {(name, each.step): each.value for each in client.get_metric_history(run_id, name)}
        assert first == {key: value for key, value in again.items() if key[0] == name}


def test_another_seed_gives_other_numbers() -> None:
    assert train("epochs=1").metrics != train("epochs=1", "seed=1").metrics


def test_settings_reach_the_training() -> None:
    small = train("epochs=1", "batch_size=128", "model.channels=2")
    assert max(step for key, step in small.metrics if key == "train/loss_step") == -(-1257 // 128)
    assert small.model is not None
    assert small.model[0].out_channels == 2


def test_epoch_values_are_means_over_images() -> None:
    """The last batch is smaller, so the mean over batches would be wrong."""
    run = train("epochs=1", "batch_size=200")
    steps = [run.metrics["train/loss_step", step] for step in range(1, 8)]
    assert run.metrics["train/loss", 1] == pytest.approx(np.average(steps, weights=[200] * 6 + [57]))
