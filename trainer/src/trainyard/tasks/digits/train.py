"""Training the network on digits."""

import torch

from trainyard.distributed import World
from trainyard.tasks.base import Context, Outcome
from trainyard.tasks.classification.examples import Examples
from trainyard.tasks.classification.fit import Recipe, begin, fit
from trainyard.tasks.classification.report import conclude
from trainyard.tasks.classification.score import MetricNames
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.tasks.digits.data import load
from trainyard.tasks.digits.model import cnn


class DigitsTrainer:
    """One training. Implements `trainyard.tasks.base.Trainer`."""

    model_name = "cnn"

    def __init__(self, config: DigitsConfig, world: World) -> None:
        """Loads the data. Raises ConfigError if they cannot be used."""
        self.config = config
        self._world = world
        self._digits = load(config.data)
        self.dataset_version = self._digits.version
        self.dataset = self._digits.statistics

    def train(self, context: Context) -> Outcome:
        """See `Trainer`."""
        config, digits, device = self.config, self._digits, self._world.device
        begin(config.seed, self._world)
        model = cnn(config.model, classes=digits.classes).to(device)
        train = Examples(digits.train, device)
        batches = train.batches(config.batch_size, config.seed, self._world)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        steps = config.epochs * len(batches)
        recipe = Recipe(
            model=model,
            optimizer=optimizer,
            schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
            train=train,
            validation=Examples(digits.validation, device),
            batches=batches,
            epochs=config.epochs,
            names=MetricNames(step="_step", epoch=""),
        )
        history = fit(recipe, context)
        metrics = conclude(context, recipe, history, digits, tracking=config.tracking)
        return Outcome(metrics={"test/accuracy": metrics["test/accuracy"]})
