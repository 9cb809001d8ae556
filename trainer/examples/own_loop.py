"""A plain PyTorch loop that may be stopped at any moment. Run it, stop it with SIGTERM, run it again: it goes on.

TRAINYARD_TRACKING=json TRAINYARD_JOB_UID=first python own_loop.py
"""

import torch
import trainyard
from torch import nn
from trainyard.batches import Batches
from trainyard.checkpoint import CheckpointConfig, Checkpointer

torch.manual_seed(0)
inputs = torch.randn(512, 8)
targets = inputs.prod(dim=1, keepdim=True)

model = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.1), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=320)
batches = Batches(len(inputs), 32, seed=0)
saving = CheckpointConfig(every_steps=20)

with trainyard.run("own-loop", name="own_loop", params={"lr": 1e-2}) as run:
    with Checkpointer(
        run, config=saving, model=model, optimizer=optimizer, schedule=schedule, batches=batches
    ) as checkpoint:
        step = checkpoint.restore()  # 0 the first time
        for epoch in batches.epochs(20):
            for positions in batches:
                step += 1
                loss = nn.functional.mse_loss(model(inputs[positions]), targets[positions])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                run.log_metrics({"train/loss": loss.item()}, step=step)
                if step % len(batches) == 0:
                    print(f"epoch {epoch}: loss {loss.item():.4f}", flush=True)
                checkpoint.after_step(step)  # at SIGTERM writes a checkpoint and ends the process with 75
    torch.save(model.state_dict(), "model.pt")
