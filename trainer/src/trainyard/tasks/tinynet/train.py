"""Training the network on points."""

from collections.abc import Mapping
from typing import Any

import torch

from trainyard.distributed import World
from trainyard.tasks.base import Context, Outcome
from trainyard.tasks.classification.examples import Examples
from trainyard.tasks.classification.fit import Recipe, begin, fit
from trainyard.tasks.classification.report import conclude
from trainyard.tasks.classification.score import MetricNames
from trainyard.tasks.tinynet.config import TinynetConfig
from trainyard.tasks.tinynet.data import load
from trainyard.tasks.tinynet.model import two_layers


class TinynetTrainer:
    """One training. Implements `trainyard.tasks.base.Trainer`."""

    model_name = "mlp"

    def __init__(self, config: TinynetConfig, world: World) -> None:
        """Loads the data. Raises ConfigError if they cannot be used."""
        self.config = config
        self._world = world
        self._data = load(config.data)
        self.dataset_version = self._data.version
        self.dataset = self._data.statistics

    def train(self, context: Context) -> Outcome:
        """See `Trainer`."""
        config, data, device = self.config, self._data, self._world.device
        begin(config.seed, self._world)
        model = two_layers(config.model, data.train.inputs, classes=data.classes).to(device)
        train = Examples(data.train, device)
        batches = train.batches(config.batch_size, config.seed, self._world)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
        recipe = Recipe(
            model=model,
            optimizer=optimizer,
            schedule=torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
            train=train,
            validation=Examples(data.validation, device),
            batches=batches,
            epochs=config.epochs,
            names=MetricNames(accuracy="acc"),
            patience=config.patience,
        )
        history = fit(recipe, context)
        metrics = conclude(context, recipe, history, data, tracking=config.tracking, describe=self._describe)
        return Outcome(metrics={"test/acc": metrics["test/acc"]})

    def _describe(self, position: int) -> Mapping[str, Any]:
        return {"features": [round(float(value), 4) for value in self._data.test.inputs[position]]}
