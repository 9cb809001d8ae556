"""A stand-in for the W&B server that the real wandb client talks to; see README.md."""
