"""Which configurations a search tries: points spread evenly up front, then Optuna's TPE, which learns from what came out.

A space is a dict of Optuna's distributions. What is tried next depends only on the seed, the number of the job and what has
finished, so that a search that was stopped goes on as if it had not been (with one process; with more, on their timing too).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

__all__ = ["SPREAD", "Search", "pruner", "sobol", "stops", "suggest"]

SPREAD = 10
"""How many points are spread before TPE begins."""


@dataclass(frozen=True, slots=True)
class Search:
    """An adaptive search: what a queue does after the jobs that were put into it.

    Attributes
    ----------
    space : an Optuna distribution for each hyperparameter.
    trials : the number of configurations, those that were put among them, >= 1.
    seed : of the points and of TPE.
    fixed : what every job is given beside the point: the optimizer, the workload.
    prune : when ``report`` says that a job should stop: never; when it is worse than the median of the others at the same
        step (``"median"``, for one run whose steps are reported); when Wilcoxon's test finds it worse than the best one
        (``"wilcoxon"``, for a job of several runs whose costs are reported by seed).
    warmup : a step before which nothing is stopped: early values judge slow starters badly.
    """

    space: Mapping[str, BaseDistribution]
    trials: int
    seed: int = 0
    fixed: Mapping[str, Any] = field(default_factory=dict)
    prune: Literal["never", "median", "wilcoxon"] = "never"
    warmup: int = 0

    def facts(self) -> dict[str, Any]:
        """What must be the same when the search is resumed; ``trials`` may grow."""
        space = {name: repr(distribution) for name, distribution in self.space.items()}
        return {"space": space, "seed": self.seed, "fixed": dict(self.fixed), "prune": [self.prune, self.warmup]}


def sobol(space: Mapping[str, BaseDistribution], count: int, seed: int) -> list[dict[str, Any]]:
    """The first ``count`` points of a scrambled Sobol sequence in the space: the same for every process that asks.

    >>> from optuna.distributions import CategoricalDistribution, FloatDistribution
    >>> points = sobol({"lr": FloatDistribution(1e-4, 1.0, log=True), "nesterov": CategoricalDistribution([False, True])}, 8, 0)
    >>> sum(1e-4 <= point["lr"] < 1e-2 for point in points), sum(point["nesterov"] for point in points)
    (4, 4)
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A category is a number in [0, how many): Optuna before 5 can't spread them.
    choices = {
        name: d.choices for name, d in space.items() if isinstance(d, optuna.distributions.CategoricalDistribution)
    }
    floats = {name: optuna.distributions.FloatDistribution(0, len(those)) for name, those in choices.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental; a count that is no power of two
        sampler = optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
        study = optuna.create_study(sampler=sampler)
        # Sampled directly: through `ask`, the first point is random and categories are not spread.
        trial = optuna.trial.create_trial(value=0.0)
        points = [sampler.sample_relative(study, trial, {**space, **floats}) for _ in range(count)]
    for point in points:
        point.update({name: those[min(int(point[name]), len(those) - 1)] for name, those in choices.items()})
    return points


def suggest(study: Study, trial_id: int, search: Search, number: int) -> None:
    """Give a running trial the values that TPE thinks of as job ``number``; running ones count as bad, so that processes
    which work at the same time try different things."""
    import optuna

    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, as both options were before Optuna 5
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=SPREAD, multivariate=True, constant_liar=True, seed=seed
        )
    trial = optuna.trial.Trial(study, trial_id)
    for name, d in search.space.items():
        if isinstance(d, optuna.distributions.FloatDistribution):
            trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)
        elif isinstance(d, optuna.distributions.IntDistribution):
            trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
        elif isinstance(d, optuna.distributions.CategoricalDistribution):
            trial.suggest_categorical(name, d.choices)


def pruner(search: Search) -> BasePruner:
    """Optuna's pruner for the search."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Wilcoxon's is experimental
        if search.prune == "median":
            return optuna.pruners.MedianPruner(n_warmup_steps=search.warmup)
        if search.prune == "wilcoxon":
            return optuna.pruners.WilcoxonPruner()
        return optuna.pruners.NopPruner()


def stops(pruner: BasePruner, study: Study, trial: FrozenTrial) -> bool:
    """What the pruner says, without its warnings: of a best trial that reported nothing, of infinite values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pruner.prune(study, trial)
