"""Runs in Weights & Biases: online, or offline in a folder that `wandb sync` uploads later.

backend.py           what the shipper calls; decides what is sent, and when it is safe
translate.py         our records in its terms
waiting.py           files on their way
options.py           environment and the run's settings
patience.py          waiting for its answer
process.py           the child process that holds the wandb library
worker.py            what runs in it
server.py            questions to the W&B server: what has it got?
graphql.py           how they are asked
transaction_log.py   the same question to an offline folder
"""

from trainyard.shipping.wandb.backend import WandbBackend

__all__ = ["WandbBackend"]
