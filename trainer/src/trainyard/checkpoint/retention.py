"""Which checkpoints have had their time."""

from collections.abc import Mapping
from typing import Literal

from trainyard.checkpoint.config import CheckpointConfig
from trainyard.checkpoint.layout import Name


def superfluous(
    scores: Mapping[Name, float | None], config: CheckpointConfig, best: Literal["min", "max"]
) -> list[Name]:
    """Those that are neither among the newest nor the best; of one step only the newest save counts."""
    newest = {name.step: name for name in sorted(scores)}
    kept = set(sorted(newest.values())[-config.keep_last :])
    scored = [(score, name) for name in newest.values() if (score := scores[name]) is not None]
    if config.keep_best and scored:
        sign = 1 if best == "min" else -1
        kept.add(min(scored, key=lambda each: (sign * each[0], -each[1].step))[1])
    return [name for name in scores if name not in kept]
