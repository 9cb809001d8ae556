"""Lightning, and a training that may be stopped at any moment.

TRAINYARD_TRACKING=json TRAINYARD_JOB_UID=first python lightning_loop.py
"""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
import trainyard
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from trainyard.integrations.lightning import TrainyardCallback, last_checkpoint

Batch = tuple[Tensor, Tensor]


class Loader:
    """Batches whose order follows from the number of the epoch. Lightning keeps what `state_dict` returns."""

    def __init__(self, inputs: Tensor, targets: Tensor, size: int) -> None:
        self.inputs, self.targets, self.size = inputs, targets, size
        self.given = 0

    def __len__(self) -> int:
        return len(self.inputs) // self.size

    def __iter__(self) -> Iterator[Batch]:
        epoch, position = divmod(self.given, len(self))
        order = torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(epoch))
        for positions in order.split(self.size)[position : len(self)]:
            self.given += 1
            yield self.inputs[positions], self.targets[positions]

    def state_dict(self) -> dict[str, Any]:
        """How many were given, over all epochs."""
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there."""
        self.given = state["given"]


class Regression(pl.LightningModule):
    """Learns the product of eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": 1e-2})
        self.model = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.1), nn.Tanh(), nn.Linear(32, 1))

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Lightning's."""
        loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Lightning's."""
        self.log("val/loss", nn.functional.mse_loss(self.model(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Lightning's."""
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])


pl.seed_everything(0)
inputs = torch.randn(512, 8)
targets = inputs.prod(dim=1, keepdim=True)
module = Regression()

with trainyard.run("lightning-loop", name="lightning_loop") as run:
    trainer = pl.Trainer(
        accelerator="auto",
        max_epochs=10,
        log_every_n_steps=1,
        logger=False,
        callbacks=[TrainyardCallback(run, every_n_train_steps=20)],
        enable_model_summary=False,
    )
    validation = DataLoader(TensorDataset(inputs[:64], targets[:64]), batch_size=64)
    trainer.fit(module, Loader(inputs, targets, 32), validation, ckpt_path=last_checkpoint(run))
    torch.save(module.state_dict(), "model.pt")
