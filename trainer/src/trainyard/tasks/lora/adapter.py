"""The adapter: put onto a base, kept in checkpoints, saved, and merged."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn

from trainyard.distributed import parameter_hash
from trainyard.errors import ConfigError
from trainyard.tasks.lm.model import GPT
from trainyard.tasks.lora.config import AdapterConfig


class Adapter:
    """A base whose weights do not change, and the small matrices beside them that are trained.

    `state_dict` is of the small matrices alone, so a checkpoint is small too.
    """

    def __init__(self, base: GPT, config: AdapterConfig, *, base_name: str) -> None:
        """Takes `base` over. Raises ConfigError for target modules that it does not have."""
        _refuse_unknown(base, config.target_modules.split(","))
        self.base_hash = parameter_hash(base)
        self.base_name = base_name
        # Where peft looks for what it writes as base_model_name_or_path.
        base.name_or_path = base_name
        self.parameters_of_base = sum(weight.numel() for weight in base.parameters())
        self.model = peft.get_peft_model(
            base,
            peft.LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=config.target_modules.split(","),
            ),
        )

    def weights(self) -> Mapping[str, Tensor]:
        """What is trained, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def state_dict(self) -> dict[str, Any]:
        """The small matrices, and which base they belong to."""
        return {"base": self.base_hash, "weights": {name: weight.detach() for name, weight in self.weights().items()}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there. Raises ConfigError if the base is another one: an alias may have moved since."""
        if state["base"] != self.base_hash:
            raise ConfigError(
                f"base.model: this training began on a base with the hash {state['base']}, and {self.base_name} has "
                f"{self.base_hash}; set base.model to the version that it began with, as the tag trainyard.base of the run says"
            )
        for name, weight in self.weights().items():
            weight.copy_(state["weights"][name])

    def save(self, folder: Path) -> None:
        """Write `adapter_config.json` and `adapter_model.safetensors` to `folder`, as peft loads them."""
        # False: "auto" would look for the base's configuration on the Hugging Face Hub.
        self.model.save_pretrained(str(folder), save_embedding_layers=False)
        # A form that nobody has filled in.
        (folder / "README.md").unlink(missing_ok=True)

    def merged(self) -> GPT:
        """A copy of the base with the products of the small matrices added: as fast as the base."""
        merged: GPT = copy.deepcopy(self.model).merge_and_unload()
        return merged

    def verify_base(self) -> None:
        """Raises RuntimeError if a weight of the base is not what it was."""
        after = parameter_hash(copy.deepcopy(self.model).unload())
        if after != self.base_hash:
            raise RuntimeError(
                f"the weights of the base {self.base_name} changed while the adapter was trained: their hash was "
                f"{self.base_hash} and is {after}"
            )


def _refuse_unknown(base: GPT, targets: list[str]) -> None:
    linear = [name for name, module in base.named_modules() if isinstance(module, nn.Linear)]
    unknown = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if unknown:
        # Without blocks.0, blocks.1, ...: all blocks have the same layers.
        known = dict.fromkeys(name.split(".", 2)[2] for name in linear)
        raise ConfigError(
            f"adapter.target_modules: the base has no linear layer {', '.join(unknown)}; it has {', '.join(known)}"
        )
