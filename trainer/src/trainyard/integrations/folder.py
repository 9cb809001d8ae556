"""Where a library that writes its own checkpoints is to put them."""

import os
from pathlib import Path

from trainyard import distributed
from trainyard.environment import JobEnvironment
from trainyard.errors import ConfigError
from trainyard.tracking.run import Run


def checkpoint_folder(run: Run) -> Path:
    """The run's own directory for checkpoints: the same for each rank, and for each pod of a Job.

    Where several processes train together, they meet here. Raises ConfigError where it is no directory, and what
    `distributed.join` raises.
    """
    environment = JobEnvironment.read(os.environ)
    if environment.world_size > 1:
        distributed.join(environment, device="auto")
    place = environment.checkpoints(distributed.from_rank_0(run.uid))
    if "://" in place:
        raise ConfigError(
            f"TRAINYARD_CHECKPOINT_URI={environment.checkpoint_uri}: Hugging Face's Trainer and Lightning write "
            "checkpoints to a directory; give one on a volume that outlives the pod, or train with trainyard.checkpoint"
        )
    return Path(place)
