"""The loop that trains a language model step by step; lm trains all of it, lora an adapter."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from trainyard import distributed
from trainyard.batches import Batches
from trainyard.distributed import World
from trainyard.errors import ConfigError
from trainyard.tasks.base import Context
from trainyard.tasks.lm.acceleration import autocast, compiled, refuse_impossible, uses_bfloat16
from trainyard.tasks.lm.config import LoopConfig
from trainyard.tasks.lm.optimization import adamw, warmup_cosine
from trainyard.tasks.lm.speed import Speed, peak_flops
from trainyard.tasks.lm.text import Sequences, Text


class Stateful(Protocol):
    """What a checkpoint keeps of the model."""

    def state_dict(self) -> Mapping[str, Any]:
        """Its state."""

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Go on there."""


class Loop:
    """Training on one text, for any network that gives logits for each position."""

    def __init__(self, config: LoopConfig, text: Text, world: World, *, context: int) -> None:
        """`context`: bytes of a sequence. Raises ConfigError if the text or a setting does not fit."""
        self._config = config
        self._world = world
        self._train = Sequences(text.train, context, world.device)
        self._validation = Sequences(text.validation, context, world.device)
        self._tokens_per_step = config.batch_size * context
        refuse_impossible(config.compile)
        if config.batch_size > self._train.count:
            raise ConfigError(
                f"batch_size={config.batch_size}: the text has only {self._train.count} sequences of {context} bytes to train on"
            )
        if config.batch_size < world.size * config.accumulate:
            raise ConfigError(
                f"batch_size={config.batch_size}: {world.size} process(es) that accumulate {config.accumulate} part(s) need "
                f"at least {world.size * config.accumulate} sequences"
            )

    def fit(
        self, model: nn.Module, context: Context, *, saved: Stateful | None = None, flops_per_token: float | None = None
    ) -> float:
        """Train the parameters of `model` that require a gradient; returns the last validation loss, in nats per byte.

        `saved`: what a checkpoint keeps of the model, if not all of it. `flops_per_token`: for the MFU, where it is known.
        """
        config, world, run = self._config, self._world, context.run
        optimizer = adamw(model, config.optimizer)
        schedule = warmup_cosine(optimizer, config.optimizer, config.steps)
        batches = self._batches()
        progress = {"validation_loss": math.inf}
        parallel = distributed.parallel(model, world)
        network = compiled(parallel, config.compile, world.device, context.say)
        speed = self._speed(flops_per_token)
        with context.checkpointer(
            model=saved or model, optimizer=optimizer, schedule=schedule, batches=batches, progress=progress
        ) as checkpoint:
            step = checkpoint.restore()
            for positions in self._steps_left(batches, step):
                step += 1
                (lr, *_) = schedule.get_last_lr()
                with speed.step():
                    loss, grad_norm = self._step(parallel, network, optimizer, positions)
                schedule.step()
                run.log_metrics({"train/loss": loss, "lr": lr, "grad_norm": grad_norm, **speed.metrics()}, step=step)
                score = None
                if step % config.evaluate_every == 0 or step == config.steps:
                    score = progress["validation_loss"] = self.evaluate(model)
                    run.log_metrics({"validation/loss": score, "validation/perplexity": perplexity(score)}, step=step)
                    context.say(_progress(step, config.steps, loss, score, speed.tokens_per_second))
                checkpoint.after_step(step, score=score)
        return progress["validation_loss"]

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> float:
        """Mean loss on the part for validation, in nats per byte."""
        model.eval()
        config, world = self._config, self._world
        validation = self._validation
        summed = torch.zeros((), dtype=torch.float64, device=world.device)
        for positions in torch.arange(world.rank, validation.count, world.size).split(config.batch_size):
            tokens, targets = validation.get(positions)
            with autocast(config.precision, world.device):
                summed += _summed_loss(model(tokens), targets)
        return float(distributed.total(summed)) / (validation.count * validation.context)

    def _step(
        self, parallel: nn.Module, network: nn.Module, optimizer: torch.optim.Optimizer, positions: Tensor
    ) -> tuple[float, float]:
        """One optimizer step; the loss of the whole batch before it, in nats per byte, and the length of its gradient."""
        config, world = self._config, self._world
        network.train()
        optimizer.zero_grad()
        loss = torch.zeros((), device=world.device)
        shares = positions.tensor_split(config.accumulate)
        for number, share in enumerate(shares, start=1):
            tokens, targets = self._train.get(share)
            with _synchronized(parallel, wanted=number == len(shares)):
                with autocast(config.precision, world.device):
                    logits = network(tokens)
                part = _summed_loss(logits, targets) / self._tokens_per_step
                # DistributedDataParallel takes the mean over the ranks, and the sum is wanted.
                (part * world.size).backward()
            loss += part.detach()
        trained = [weight for group in optimizer.param_groups for weight in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, config.optimizer.clip or math.inf)
        optimizer.step()
        return float(distributed.total(loss)), float(norm)

    def _batches(self) -> Batches:
        """Whole batches only: a smaller one at the end of an epoch would weigh its sequences more."""
        size = self._config.batch_size
        count = self._train.count // size * size
        return Batches(count, size, seed=self._config.seed, rank=self._world.rank, world_size=self._world.size)

    def _steps_left(self, batches: Batches, done: int) -> Iterator[Tensor]:
        """This rank's positions for each step that is left."""
        for _ in batches.epochs(-(-self._config.steps // len(batches))):
            for positions in batches:
                if done == self._config.steps:
                    return
                done += 1
                yield positions

    def _speed(self, flops_per_token: float | None) -> Speed:
        device, peak = self._world.device, None
        if device.type == "cuda" and uses_bfloat16(self._config.precision, device):
            peak = peak_flops(torch.cuda.get_device_name(device))
        return Speed(
            tokens_per_step=self._tokens_per_step,
            flops_per_token=flops_per_token,
            peak=peak and peak * self._world.size,
        )


def seed_everything(seed: int, world: World) -> None:
    """The same numbers each time; to the last bit on a CPU, since on a GPU that would cost the fast kernels of attention.

    To be called before the network is made: its weights are rank 0's, its dropout each rank's own.
    """
    torch.use_deterministic_algorithms(world.device.type == "cpu")
    torch.manual_seed(seed + world.rank)


def perplexity(loss: float) -> float:
    """Between how many bytes the model hesitates; infinite for a loss that is beyond all measure."""
    return math.inf if loss > 700 else math.exp(loss)


def _synchronized(parallel: nn.Module, *, wanted: bool) -> AbstractContextManager[object]:
    """Gradients go from rank to rank only with the last part of a step."""
    synchronized: AbstractContextManager[object] = nullcontext()
    if isinstance(parallel, DistributedDataParallel) and not wanted:
        synchronized = parallel.no_sync()
    return synchronized


def _summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, summed over all positions, in float32."""
    return cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")


def _progress(step: int, steps: int, trained: float, validated: float, tokens_per_second: float) -> str:
    return (
        f"step {step:{len(str(steps))}}/{steps}  train loss {trained:.4f}  validation loss {validated:.4f}"
        f" perplexity {perplexity(validated):.2f}  {tokens_per_second:,.0f} tokens/s"
    )
