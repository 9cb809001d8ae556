"""What every training proves at its end: that all its processes hold the same weights."""

from typing import TYPE_CHECKING

from trainyard import distributed
from trainyard.tracking.run import Run

if TYPE_CHECKING:
    from torch import nn

PARAMETER_HASH_TAG = "trainyard.parameter_hash"


def tag_parameter_hash(model: "nn.Module", run: Run) -> str:
    """Compare the hash of `model` on all ranks and keep it as a tag of the run; to be called on all ranks.

    Raises RuntimeError on every rank if they differ: such a model is no one's result.
    """
    hashes: list[str] = distributed.gather(distributed.parameter_hash(model))
    if len(set(hashes)) > 1:
        found = ", ".join(f"rank {rank}: {each}" for rank, each in enumerate(hashes))
        raise RuntimeError(
            f"the processes ended with different weights ({found}); something changed the model outside "
            "DistributedDataParallel, or a buffer such as BatchNorm's depends on a rank's own examples"
        )
    run.set_tags({PARAMETER_HASH_TAG: hashes[0]})
    return hashes[0]
