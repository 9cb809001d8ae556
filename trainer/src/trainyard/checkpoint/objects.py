"""What a user hands over to be saved, by name: what all ranks have in common, and what each has for itself."""

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from trainyard import distributed
from trainyard.checkpoint import randomness
from trainyard.checkpoint.snapshot import original
from trainyard.errors import ConfigError


class Objects:
    """Named objects of three kinds: with a state_dict, random number generators, and plain dicts.

    The first are the same on all ranks, as DistributedDataParallel keeps them; the others are saved for each rank.
    """

    def __init__(self, objects: Mapping[str, Any]) -> None:
        """Raises TypeError for what is of no such kind."""
        self._common: dict[str, Any] = {}
        self._own: dict[str, Any] = {}
        for name, each in objects.items():
            each = distributed.plain(each) if isinstance(each, nn.Module) else each
            if hasattr(each, "state_dict") and hasattr(each, "load_state_dict"):
                self._common[name] = each
            elif isinstance(each, torch.Generator | np.random.Generator | dict):
                self._own[name] = each
            else:
                raise TypeError(
                    f"Checkpointer({name}=...): a {type(each).__name__} has no state_dict and load_state_dict, and is no "
                    "random number generator and no dict"
                )

    @property
    def names(self) -> list[str]:
        """Of those that all ranks have in common."""
        return list(self._common)

    def common(self) -> dict[str, Any]:
        """State of what all ranks have in common."""
        return {name: each.state_dict() for name, each in self._common.items()}

    def own(self) -> dict[str, Any]:
        """State of what this rank has for itself, the global random number generators included."""
        return {"random": randomness.state(), "objects": {name: _get(each) for name, each in self._own.items()}}

    def load(self, name: str, state: Any, place: str) -> None:
        """Fill what all ranks have in common. Raises ConfigError where it does not fit."""
        try:
            self._common[name].load_state_dict(original(state))
        except (ValueError, KeyError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not str(error).startswith("Error(s) in loading state_dict"):
                raise  # such as no memory left: no question of what was saved
            raise ConfigError(
                f"{place} does not fit `{name}`, which it was not made with: {error}; start another run, or delete the folder"
            ) from error

    def missing(self, common: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
        """Names that a checkpoint has no state for."""
        return [name for name in self._common if name not in common] + [name for name in self._own if name not in own]

    def load_own(self, ranks: list[Any], rank: int, seed: tuple[object, ...]) -> None:
        """Fill what this rank has for itself. A rank that was not there gets what all ranks had, or new random numbers."""
        share = original(ranks[rank if rank < len(ranks) else 0])
        for name, each in self._own.items():
            if rank < len(ranks) or isinstance(each, dict):
                _put(each, share["objects"][name])
            else:
                _put_new(each, [saved["objects"][name] for saved in ranks], randomness.seed_for(*seed, name))
        if rank < len(ranks):
            randomness.restore(share["random"])
        else:
            randomness.seed_all(randomness.seed_for(*seed))


def _get(each: Any) -> Any:
    if isinstance(each, torch.Generator):
        return each.get_state()
    return each.bit_generator.state if isinstance(each, np.random.Generator) else each


def _put(each: Any, state: Any) -> None:
    if isinstance(each, torch.Generator):
        each.set_state(state)
    elif isinstance(each, np.random.Generator):
        each.bit_generator.state = state
    else:
        each.clear()
        each.update(state)


def _put_new(each: Any, saved: list[Any], seed: int) -> None:
    """A generator that was the same on all ranks stays so: it decides something that they have in common."""
    states = [original(state) for state in saved]
    if all(_same(state, states[0]) for state in states):
        _put(each, states[0])
    elif isinstance(each, torch.Generator):
        each.manual_seed(seed)
    else:
        _put(each, type(each.bit_generator)(seed).state)


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else pickle.dumps(one) == pickle.dumps(other)
