"""The optimizer and its learning rate."""

import math
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from trainyard.tasks.lm.config import OptimizerConfig


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """For the parameters of `model` that are trained. Matrices decay; norms, biases and embeddings do not."""
    kept = {
        weight
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.LayerNorm)
        for weight in module.parameters(recurse=False)
    }
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    decaying = [weight for weight in trained if weight.dim() > 1 and weight not in kept]
    others = [weight for weight in trained if weight.dim() <= 1 or weight in kept]
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([each for each in groups if each["params"]], config.lr, (config.beta1, config.beta2))


def warmup_cosine(optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int) -> LambdaLR:
    """The learning rate of each step: to be moved on after each."""
    return LambdaLR(optimizer, partial(_share, warmup=config.warmup_steps, steps=steps, least=config.min_lr_share))


def _share(done: int, *, warmup: int, steps: int, least: float) -> float:
    """Of the highest learning rate, for the step after `done` ones: 1/warmup, 2/warmup, ..., 1, then a cosine to `least`."""
    if done < warmup:
        return (done + 1) / warmup
    # The last step, steps - 1, has the least one.
    progress = (done - warmup) / max(1, steps - 1 - warmup)
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
