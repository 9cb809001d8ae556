"""Training the network on a text."""

import tempfile
from pathlib import Path

from trainyard.distributed import World
from trainyard.tasks.base import Context, Outcome
from trainyard.tasks.conclusion import tag_parameter_hash
from trainyard.tasks.lm.config import LmConfig
from trainyard.tasks.lm.loop import Loop, perplexity, seed_everything
from trainyard.tasks.lm.model import GPT
from trainyard.tasks.lm.samples import write_samples
from trainyard.tasks.lm.saved import save_base, save_for_serving
from trainyard.tasks.lm.speed import flops_per_token
from trainyard.tasks.lm.text import language_reference, load


class LmTrainer:
    """One training. Implements `trainyard.tasks.base.Trainer`."""

    model_name = "gpt"

    def __init__(self, config: LmConfig, world: World) -> None:
        """Loads the text. Raises ConfigError if it, or a setting, does not fit."""
        self.config = config
        self._world = world
        self._text = load(config.data, language_reference)
        self.dataset_version = self._text.version
        self.dataset = self._text.statistics
        self._loop = Loop(config, self._text, world, context=config.model.context)

    def train(self, context: Context) -> Outcome:
        """See `Trainer`."""
        config, run = self.config, context.run
        seed_everything(config.seed, self._world)
        model = GPT(config.model).to(self._world.device)
        # Positions are looked up and added, never multiplied.
        multiplied = sum(weight.numel() for weight in model.parameters()) - model.positions.weight.numel()
        loss = self._loop.fit(model, context, flops_per_token=flops_per_token(multiplied, config.model))
        tag_parameter_hash(model, run)
        if self._world.rank == 0:
            run.log_dict(write_samples(model, self._text, context=model.context, seed=config.seed), "samples.json")
            with tempfile.TemporaryDirectory() as folder:
                saved = Path(folder, "model")
                save_for_serving(model, saved)
                save_base(model, config.model, saved)
                run.log_model(saved, register=config.tracking.model, alias="challenger", step=config.steps)
        return Outcome(metrics={"validation/loss": loss, "validation/perplexity": perplexity(loss)})
