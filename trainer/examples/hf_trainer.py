"""Hugging Face's Trainer, and a training that may be stopped at any moment. Downloads nothing.

TRAINYARD_TRACKING=json TRAINYARD_JOB_UID=first python hf_trainer.py
"""

import torch
import trainyard
from torch.utils.data import Dataset
from trainyard.integrations import checkpoint_folder
from trainyard.integrations.transformers import train
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed


class Counting(Dataset[dict[str, torch.Tensor]]):
    """Numbers below 64 that go up by 1, 2 or 3."""

    def __len__(self) -> int:
        return 240

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        numbers = (torch.arange(16) * (1 + index % 3) + index) % 64
        return {"input_ids": numbers, "labels": numbers}


set_seed(0)
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
)

with trainyard.run("counting", name="hf_trainer") as run:
    args = TrainingArguments(
        output_dir=str(checkpoint_folder(run)),
        num_train_epochs=4,
        per_device_train_batch_size=16,
        learning_rate=1e-2,
        logging_steps=1,
        save_steps=10,
        save_total_limit=2,
        eval_strategy="epoch",
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = Trainer(model, args, train_dataset=Counting(), eval_dataset=Counting())
    train(trainer, run)  # goes on where it was; at SIGTERM writes a checkpoint and ends the process with 75
    trainer.save_model("model")
