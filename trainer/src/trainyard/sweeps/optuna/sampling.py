"""Who proposes the next parameters: made anew for each trial, so that any worker proposes the same."""

import hashlib
from typing import Final

from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler

from trainyard.sweeps.sweep import Sweep

_LARGEST_POPULATION: Final = 50
_SMALLEST_POPULATION: Final = 8
_GENERATIONS: Final = 4


def sampler(sweep: Sweep, place: int) -> BaseSampler:
    """For the trial that is the `place`-th of the study, retries apart; what it has to remember is in the study."""
    seed = int.from_bytes(hashlib.sha256(f"{sweep.seed}/{place}".encode()).digest()[:4])
    if sweep.method in ("tpe", "bayes"):
        return TPESampler(seed=seed, multivariate=len(sweep.objectives) == 1, constant_liar=True)
    if sweep.method == "cmaes":
        # Median ends a trial at any step, so its last value says little; the others' rungs can be compared.
        use_pruned = sweep.early_stop is not None and sweep.early_stop.type != "median"
        return CmaEsSampler(seed=seed, warn_independent_sampling=False, consider_pruned_trials=use_pruned)
    if sweep.method == "nsga2":
        return NSGAIISampler(seed=seed, population_size=_population(sweep))
    return RandomSampler(seed=seed)  # what is searched in a grid is given


def _population(sweep: Sweep) -> int:
    """So that there are some generations, in a short search too."""
    return max(_SMALLEST_POPULATION, min(_LARGEST_POPULATION, (sweep.trials or 0) // _GENERATIONS))
