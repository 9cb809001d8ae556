"""Ray Tune with ASHA on handwritten digits: eight trials, of which the worse ones end early. Stop it with SIGTERM, run it again: it goes on.

TRAINYARD_TRACKING=json python asha.py

On the Ray cluster of RAY_ADDRESS, else in one of its own in this process's pod.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits
from torch import nn
from trainyard.integrations.ray import Search, TrackedTrainable

EPOCHS = 27


class Digits(TrackedTrainable):
    """A small network; an iteration is an epoch."""

    experiment = "digits-asha"
    iterations = EPOCHS

    def build(self, config: dict[str, Any]) -> None:
        """The same data and the same first weights in each trial of the same width."""
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        digits = load_digits()
        images = torch.tensor(digits.data / 16, dtype=torch.float32, device=self.device)
        labels = torch.tensor(digits.target, device=self.device)
        shuffled = torch.randperm(len(images))
        self.train_set, self.validation_set = [(images[part], labels[part]) for part in shuffled.split([1400, 397])]
        width = config["width"]
        self.model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10)).to(
            self.device
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config["lr"])
        self.batch_size = config["batch_size"]

    def iterate(self) -> dict[str, float]:
        """Once through the training data."""
        images, labels = self.train_set
        self.model.train()
        for batch in torch.randperm(len(images)).split(self.batch_size):
            loss = nn.functional.cross_entropy(self.model(images[batch]), labels[batch])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        images, labels = self.validation_set
        self.model.eval()
        with torch.no_grad():
            scores = self.model(images)
        return {
            "validation/loss": nn.functional.cross_entropy(scores, labels).item(),
            "validation/accuracy": (scores.argmax(dim=1) == labels).float().mean().item(),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """All that an epoch depends on."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        torch.save(state, Path(checkpoint_dir, "state.pt"))

    def load_checkpoint(self, checkpoint: str) -> None:
        """The same, read back."""
        state = torch.load(Path(checkpoint, "state.pt"), weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())


def main(trainable: type[TrackedTrainable] = Digits) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--gpus", type=float, default=0, help="of each trial")
    parser.add_argument(
        "--storage", help="a folder or s3://BUCKET/PREFIX for Tune's state, instead of TRAINYARD_STATE_DIR/ray"
    )
    options = parser.parse_args()
    search = Search(
        name="digits-asha",
        space={
            "lr": tune.loguniform(1e-4, 1e-1),
            "width": tune.choice([16, 32, 64]),
            "batch_size": tune.choice([32, 64, 128]),
        },
        metric="validation/loss",
        mode="min",
        trials=options.trials,
        resources={"cpu": 1, "gpu": options.gpus},
        storage=options.storage,
    )
    # Every trial gets 3 epochs; of those that have come as far, a third goes on to 9, and of these a third to 27.
    return search.run(trainable, scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=3, reduction_factor=3))


if __name__ == "__main__":
    raise SystemExit(main())
