"""Which examples come next: shuffled epoch by epoch, divided among ranks, and continued in the middle of an epoch."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Batches:
    """Positions of the examples of each step; `for epoch in batches.epochs(10): for positions in batches: ...`.

    The order depends on seed and epoch alone, so a position is all that a checkpoint needs, and the number of ranks may be
    another one after a resume. Save it after the step: what is given out counts as done.
    """

    def __init__(self, count: int, size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """`count` examples; `size` of them a step, over all ranks together. The last step of an epoch may have fewer."""
        if count < 1 or size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"Batches: {count} examples, {size} a step, rank {rank} of {world_size}: the first two must be 1 or more, "
                "the rank below the number of ranks"
            )
        self._count = count
        self._size = size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 1
        self._position = 0
        self._whole = 0

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-self._count // self._size)

    @property
    def whole(self) -> int:
        """Examples of the current step, over all ranks together: what a sum over it is divided by."""
        return self._whole

    def epochs(self, count: int) -> Iterator[int]:
        """Numbers of the epochs that are left of `count`, from 1.

        After a restore the epoch that was saved comes first, even if no step of it is left: what follows its last step, such
        as an evaluation, had not happened when the checkpoint was written.
        """
        while self._epoch <= count:
            yield self._epoch
            self._epoch += 1
            self._position = 0

    def __iter__(self) -> Iterator[Tensor]:
        """What is left of the current epoch: for each step this rank's share of the positions, shape (n,), n >= 0."""
        shuffled = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        steps = torch.randperm(self._count, generator=shuffled).split(self._size)
        for step in steps[self._position :]:
            self._position += 1
            self._whole = len(step)
            yield step[self._rank :: self._world_size]

    def state_dict(self) -> dict[str, Any]:
        """Where it is, and in which order of examples."""
        return {"epoch": self._epoch, "position": self._position, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there. Raises ValueError if the place means nothing here: other examples, batches or seed."""
        differences = [
            f"{name} {state[name]}, now {value}" for name, value in self._order().items() if state[name] != value
        ]
        if differences:
            raise ValueError(f"its steps are those of other batches: {'; '.join(differences)}")
        self._epoch, self._position = state["epoch"], state["position"]

    def _order(self) -> dict[str, int]:
        """What a position is counted in."""
        return {"count": self._count, "size": self._size, "seed": self._seed}
