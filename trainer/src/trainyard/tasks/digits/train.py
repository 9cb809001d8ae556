"""Training the network on digits."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainyard.errors import ConfigError
from trainyard.interruption import Interruption
from trainyard.reports.confusion_matrix import confusion_matrix_png
from trainyard.reports.sample_predictions import sample_predictions_json
from trainyard.tasks.base import Outcome
from trainyard.tasks.digits.config import DigitsConfig
from trainyard.tasks.digits.data import CLASSES, Part, load
from trainyard.tasks.digits.model import cnn
from trainyard.tracking.run import Run

_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Score:
    """How good the model is on a part, or was on a batch."""

    loss: float
    """Mean cross-entropy, in nats."""
    accuracy: float
    """Share of right predictions, 0 to 1."""

    def metrics(self, part: str, suffix: str = "") -> dict[str, float]:
        """As `part/loss` and `part/accuracy`."""
        return {f"{part}/loss{suffix}": self.loss, f"{part}/accuracy{suffix}": self.accuracy}


class DigitsTrainer:
    """One training. Implements `trainyard.tasks.base.Trainer`."""

    model_name = "cnn"

    def __init__(self, config: DigitsConfig) -> None:
        """Loads the data. Raises ConfigError if the device does not exist."""
        self.config = config
        self._device = _device(config.device)
        self._digits = load(config.data)
        self.dataset_version = self._digits.version
        gpu = self._device.type == "cuda"
        self.device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} thread(s)"

    def train(self, run: Run, interruption: Interruption, say: Callable[[str], None]) -> Outcome:
        """See `Trainer`."""
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(self.config.seed)
        model = cnn(self.config.model).to(self._device)
        self._fit(model, run, interruption, say)
        return self._conclude(model, run)

    def _fit(self, model: nn.Module, run: Run, interruption: Interruption, say: Callable[[str], None]) -> None:
        config, train = self.config, _Tensors(self._digits.train, self._device)
        validation = _Tensors(self._digits.validation, self._device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        steps = config.epochs * train.batches(config.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = torch.Generator().manual_seed(config.seed)
        step = 0
        for epoch in range(1, config.epochs + 1):
            start = time.monotonic()
            scores, sizes = [], []
            for images, labels in train.shuffled(config.batch_size, order):
                step += 1
                scores.append(_step(model, optimizer, images, labels))
                sizes.append(len(labels))
                schedule.step()
                run.log_metrics(scores[-1].metrics("train", "_step"), step=step)
                interruption.check()
            trained, validated = _mean(scores, sizes), _evaluate(model, validation)[0]
            run.log_metrics({**trained.metrics("train"), **validated.metrics("validation")}, step=epoch)
            say(_progress(epoch, config.epochs, trained, validated, time.monotonic() - start))

    def _conclude(self, model: nn.Module, run: Run) -> Outcome:
        """Test, write the reports, register the model."""
        test = self._digits.test
        score, logits = _evaluate(model, _Tensors(test, self._device))
        run.log_metrics(score.metrics("test"), step=self.config.epochs)
        certainty = torch.softmax(logits, dim=1).cpu().numpy()
        run.log_bytes(
            "confusion_matrix.png", confusion_matrix_png(test.labels, certainty.argmax(axis=1), classes=CLASSES)
        )
        run.log_bytes("sample_predictions.json", sample_predictions_json(test.indices, test.labels, certainty))
        run.log_model(
            model,
            input_example=test.images[:_EXAMPLES],
            register=self.config.tracking.model,
            alias="challenger",
            step=self.config.epochs,
        )
        return Outcome(test_accuracy=score.accuracy)


class _Tensors:
    """A part of the data on the device, whole: it is 500 KB."""

    def __init__(self, part: Part, device: torch.device) -> None:
        self.images = torch.from_numpy(part.images).to(device)
        self.labels = torch.from_numpy(part.labels).to(device)

    def batches(self, size: int) -> int:
        return -(-len(self.labels) // size)

    def shuffled(self, size: int, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (images, labels) in a new order; the last one may be smaller."""
        for chosen in torch.randperm(len(self.labels), generator=order).to(self.labels.device).split(size):
            yield self.images[chosen], self.labels[chosen]


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Score:
    """One optimizer step; the score is the batch's before it."""
    model.train()
    logits = model(images)
    loss = cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return Score(loss.item(), _accuracy(logits, labels))


def _evaluate(model: nn.Module, data: _Tensors) -> tuple[Score, Tensor]:
    """The score, and the logits of shape (n, 10)."""
    model.eval()
    with torch.no_grad():
        logits = model(data.images)
    return Score(cross_entropy(logits, data.labels).item(), _accuracy(logits, data.labels)), logits


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(dim=1) == labels).float().mean())


def _mean(scores: list[Score], sizes: list[int]) -> Score:
    """Mean over all images, not over batches."""
    total = sum(sizes)
    return Score(
        sum(score.loss * size for score, size in zip(scores, sizes, strict=True)) / total,
        sum(score.accuracy * size for score, size in zip(scores, sizes, strict=True)) / total,
    )


def _progress(epoch: int, epochs: int, trained: Score, validated: Score, seconds: float) -> str:
    return (
        f"epoch {epoch:{len(str(epochs))}}/{epochs}  train loss {trained.loss:.4f} accuracy {trained.accuracy:.4f}"
        f"  validation loss {validated.loss:.4f} accuracy {validated.accuracy:.4f}  {seconds:.1f} s"
    )


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: this process sees no GPU; use device=auto or request one for the pod")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
