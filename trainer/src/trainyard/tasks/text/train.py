"""Training the network on texts."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import get_linear_schedule_with_warmup

from trainyard.distributed import World
from trainyard.tasks.base import Context, Outcome
from trainyard.tasks.classification.examples import Examples
from trainyard.tasks.classification.fit import Recipe, begin, fit
from trainyard.tasks.classification.report import conclude
from trainyard.tasks.classification.score import MetricNames
from trainyard.tasks.text.config import TextConfig
from trainyard.tasks.text.data import load
from trainyard.tasks.text.model import TextClassifier, parameter_groups


class TextTrainer:
    """One training. Implements `trainyard.tasks.base.Trainer`."""

    model_name = "bert"

    def __init__(self, config: TextConfig, world: World) -> None:
        """Loads the data. Raises ConfigError if they cannot be used."""
        self.config = config
        self._world = world
        self._texts = load(config.data, config.vocabulary)
        self.dataset_version = self._texts.dataset.version
        self.dataset = self._texts.dataset.statistics

    def train(self, context: Context) -> Outcome:
        """See `Trainer`."""
        config, dataset, device = self.config, self._texts.dataset, self._world.device
        context.run.log_bytes("vocabulary.json", self._texts.vocabulary.to_json())
        begin(config.seed, self._world)
        model = TextClassifier(
            config.model,
            words=len(self._texts.vocabulary),
            length=config.vocabulary.length,
            classes=dataset.classes,
        ).to(device)
        train = Examples(dataset.train, device)
        batches = train.batches(config.batch_size, config.seed, self._world)
        optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr)
        steps = config.epochs * len(batches)
        recipe = Recipe(
            model=model,
            optimizer=optimizer,
            schedule=get_linear_schedule_with_warmup(optimizer, round(config.warmup_fraction * steps), steps),
            train=train,
            validation=Examples(dataset.validation, device),
            batches=batches,
            epochs=config.epochs,
            names=MetricNames(),
            clip_norm=config.clip_norm,
        )
        history = fit(recipe, context)
        metrics = conclude(context, recipe, history, dataset, tracking=config.tracking, describe=self._describe)
        return Outcome(metrics={name: metrics[name] for name in ("test/accuracy", "test/macro_f1")})

    def _describe(self, position: int) -> Mapping[str, Any]:
        return {"text": self._texts.texts[int(self._texts.dataset.test.indices[position])]}
