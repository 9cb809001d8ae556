"""The training loop: one step after the other, on one process or several, from the beginning or from a checkpoint."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainyard import distributed
from trainyard.batches import Batches
from trainyard.early_stopping import EarlyStopping
from trainyard.tasks.base import Context
from trainyard.tasks.classification.examples import Examples, predict
from trainyard.tasks.classification.history import History
from trainyard.tasks.classification.score import MetricNames, Score, Tally


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What is trained, and how."""

    model: nn.Module
    """Gives logits of shape (n, classes); on the device."""
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    """Of the learning rate, step by step."""
    train: Examples
    validation: Examples
    batches: Batches
    """Of the training examples."""
    epochs: int
    names: MetricNames
    patience: int = 0
    """Epochs without a lower validation loss after which training stops; 0 = never."""
    clip_norm: float | None = None
    """Longest gradient, as a Euclidean norm over all parameters; None = any."""


def begin(seed: int, world: distributed.World) -> None:
    """Make what follows repeatable. To be called before the model is made: its weights are rank 0's, its dropout each rank's own."""
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed + world.rank)


def fit(recipe: Recipe, context: Context) -> History:
    """Train to the end, or until it is enough. Raises Preempted or Interrupted."""
    world, run, names, batches = context.world, context.run, recipe.names, recipe.batches
    model = distributed.parallel(recipe.model, world)
    tally, history, stopping = Tally(), History(), EarlyStopping(patience=recipe.patience)
    with context.checkpointer(
        model=model,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        batches=batches,
        tally=tally,
        history=history,
        stopping=stopping,
    ) as checkpoint:
        step = checkpoint.restore()
        for epoch in batches.epochs(recipe.epochs):
            start = time.monotonic()
            for positions in batches:
                step += 1
                rate = recipe.schedule.get_last_lr()[0]
                score = _step(recipe, model, positions, batches.whole, world)
                tally.add(score, batches.whole)
                run.log_metrics({**names.of_step(score), "train/lr": rate}, step=step)
                checkpoint.after_step(step, score=history.last("validation/loss"))
            trained, validated = tally.take(), predict(model, recipe.validation, world).score
            metrics = names.of_epoch(trained, validated)
            run.log_metrics(metrics, step=epoch)
            history.add(epoch, step, metrics)
            context.say(_progress(epoch, recipe.epochs, trained, validated, time.monotonic() - start))
            if stopping.stop(validated.loss):
                context.say(f"stopped early: no lower validation loss for {recipe.patience} epochs")
                break
    return history


def _step(recipe: Recipe, model: nn.Module, positions: Tensor, whole: int, world: distributed.World) -> Score:
    """One optimizer step; the score is the whole batch's before it."""
    model.train()
    counts = len(positions) > 0
    # A rank without examples computes with one that does not count: its peers wait for its gradient, and not every layer
    # takes an empty batch.
    inputs, labels = recipe.train.at(positions if counts else torch.zeros(1, dtype=torch.int64))
    logits = model(inputs)
    loss = cross_entropy(logits, labels, reduction="sum") * counts
    recipe.optimizer.zero_grad()
    # DistributedDataParallel takes the mean over ranks, which may have unequal shares.
    (loss * world.size / whole).backward()
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    recipe.optimizer.step()
    recipe.schedule.step()
    right = (logits.argmax(dim=1) == labels).sum() * counts
    sums = distributed.total(torch.stack([loss.detach().double(), right.double()]))
    return Score(*(sums / whole).tolist())


def _progress(epoch: int, epochs: int, trained: Score, validated: Score, seconds: float) -> str:
    return (
        f"epoch {epoch:{len(str(epochs))}}/{epochs}  train loss {trained.loss:.4f} accuracy {trained.accuracy:.4f}"
        f"  validation loss {validated.loss:.4f} accuracy {validated.accuracy:.4f}  {seconds:.1f} s"
    )
