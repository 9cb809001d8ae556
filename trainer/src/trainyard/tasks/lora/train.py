"""Training an adapter for a model of the task lm on another text."""

import shutil
import tempfile
from pathlib import Path

from trainyard.distributed import World
from trainyard.tasks.base import Context, Outcome
from trainyard.tasks.conclusion import tag_parameter_hash
from trainyard.tasks.lm.loop import Loop, perplexity, seed_everything
from trainyard.tasks.lm.samples import write_samples
from trainyard.tasks.lm.saved import load_base, save_for_serving
from trainyard.tasks.lm.text import load, standard_library
from trainyard.tasks.lora.adapter import Adapter
from trainyard.tasks.lora.config import LoraConfig
from trainyard.tasks.lora.registry import fetch_model


class LoraTrainer:
    """One training. Implements `trainyard.tasks.base.Trainer`."""

    model_name = "gpt"

    def __init__(self, config: LoraConfig, world: World) -> None:
        """Loads the text and the base. Raises ConfigError if one, or a setting, does not fit; TrackingError."""
        self.config = config
        self._world = world
        self._text = load(config.data, standard_library)
        self.dataset_version = self._text.version
        self.dataset = self._text.statistics
        with tempfile.TemporaryDirectory() as folder:
            fetched = fetch_model("base.model", config.base.model, Path(folder))
            base = load_base(fetched.folder, f"base.model={config.base.model}")
        self._loop = Loop(config, self._text, world, context=base.context)
        seed_everything(config.seed, world)
        self._adapter = Adapter(base.to(world.device), config.adapter, base_name=fetched.name)

    def train(self, context: Context) -> Outcome:
        """See `Trainer`."""
        adapter, run = self._adapter, context.run
        trained = sum(weight.numel() for weight in adapter.weights().values())
        run.log_params({"adapter.parameters": trained, "adapter.share": trained / adapter.parameters_of_base})
        run.set_tags({"trainyard.base": adapter.base_name, "trainyard.base_hash": adapter.base_hash})
        with adapter.model.disable_adapter():
            base_loss = self._loop.evaluate(adapter.model)
        run.log_metrics({"validation/base_loss": base_loss}, step=0)
        context.say(f"{adapter.base_name}: validation loss {base_loss:.4f}; {trained:,} parameters are trained")
        loss = self._loop.fit(adapter.model, context, saved=adapter)
        adapter.verify_base()
        tag_parameter_hash(adapter.model, run)
        if self._world.rank == 0:
            self._record(context)
        return Outcome(
            metrics={
                "validation/base_loss": base_loss,
                "validation/loss": loss,
                "validation/perplexity": perplexity(loss),
            }
        )

    def _record(self, context: Context) -> None:
        """Samples, the adapter, and a model that can be served: base and adapter merged, with the adapter's files in it."""
        config, run, model = self.config, context.run, self._adapter.merged()
        run.log_dict(write_samples(model, self._text, context=model.context, seed=config.seed), "samples.json")
        with tempfile.TemporaryDirectory() as folder:
            adapter, saved = Path(folder, "adapter"), Path(folder, "model")
            self._adapter.save(adapter)
            run.log_artifacts(adapter, "adapter")
            save_for_serving(model, saved)
            shutil.copytree(adapter, saved / "adapter")
            run.log_model(saved, register=config.tracking.model, alias="challenger", step=config.steps)
