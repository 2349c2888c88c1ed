"""Claims on large batches: LARS and LAMB train on where SGD's scaled learning rate fails; what tuning makes of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import steepest
from steepest.schedules import cosine
from steepest.workbench.digits import data
from steepest.workbench.reproduce.claim import Claim, Figures, Paper, above, below, mean_of, ratio_of
from steepest.workbench.reproduce.tasks import best_rate, digits, end, rates

__all__ = ["CLAIMS"]

Make = Callable[..., steepest.Chain]

SMALL = 32
EPOCHS = 30


def chains(lars: Make, lamb: Make, steps: int) -> Mapping[str, tuple[Callable[[float], steepest.Chain], list[float]]]:
    """By name: the chain of a peak lr, and the rates that a search tries.

    All warm up over a tenth of the steps and fall by a cosine. LARS and LAMB leave the biases to their inner rule.
    """

    def rate(lr: float) -> Callable[[int], float]:
        return cosine(lr, steps, warmup=steps // 10)

    return {
        "SGD": (lambda lr: steepest.sgd(rate(lr), momentum=0.9, nesterov=True), rates(0.003, 3.0)),
        "Adam": (lambda lr: steepest.adam(rate(lr)), rates(3e-4, 0.1)),
        "LARS": (lambda lr: lars(rate(lr), trust_coefficient=0.01), rates(0.1, 100.0)),
        "LAMB": (lambda lr: lamb(rate(lr)), rates(1e-3, 0.3)),
    }


def large_batch(seeds: Sequence[int], lars: Make = steepest.lars, lamb: Make = steepest.lamb) -> Figures:
    """The whole training set as one batch, for as many epochs as with small ones: a fortieth of the steps.

    One rule of scaling for all, so that it does not decide: lr grows as the batch does. Which tuned optimizer stands for its kind
    is chosen where rates are: on validation losses of other seeds.
    """
    whole = len(data()["train"][0])
    per_epoch = -(-whole // SMALL)
    work = digits(whole, EPOCHS)
    losses: dict[str, dict[str, list[float]]] = {"scaled": {}, "tuned": {}}
    searching: dict[str, float] = {}
    chosen = []
    small = chains(lars, lamb, EPOCHS * per_epoch)
    for name, (make, tried) in chains(lars, lamb, EPOCHS).items():
        lr = best_rate(digits(SMALL, EPOCHS * per_epoch), small[name][0], tried)
        scaled = lr.rate * whole / SMALL
        tuned = best_rate(work, make, tried)
        chosen.append(f"{name} {lr}, {scaled:.2g}, {tuned}")
        for which, rate in (("scaled", scaled), ("tuned", tuned.rate)):
            losses[which][name] = [end(work, make(rate), seed) for seed in seeds]
        searching[name] = tuned.cost

    plain, layerwise = (min(names, key=searching.__getitem__) for names in (("SGD", "Adam"), ("LARS", "LAMB")))
    return {
        **{f"loss with scaled lr, {name}": mean_of(row) for name, row in losses["scaled"].items()},
        "loss with tuned lr, SGD or Adam / LARS or LAMB": ratio_of(losses["tuned"][plain], losses["tuned"][layerwise]),
        "what the search at the large batch chose": f"{plain} and {layerwise}",
        "median losses": "; ".join(
            f"{which}: " + ", ".join(f"{n} {np.median(row):.3f}" for n, row in rows.items())
            for which, rows in losses.items()
        ),
        "lr for batches of 32, scaled, tuned": "; ".join(chosen),
    }


SETTING = (
    "digits, 30 epochs: batches of 32, then the whole set as one batch (30 steps); warm-up and cosine; every lr scaled linearly "
    "with the batch, or tuned; of two tuned ones that which a search on other seeds has; test loss"
)
TRAINED = 0.5 * math.log(10)  # half of what guessing costs
CLAIMS = (
    Claim(
        "large-batch-scaled",
        "LARS and LAMB train with a linearly scaled lr where SGD does not",
        Paper("You et al.", 2017, "1708.03888", "large batches; LAMB: 1904.00962"),
        "Where the linear scaling of the learning rate breaks down, layer-wise rates still train.",
        SETTING,
        35, False, 16, large_batch,
        (
            above("loss with scaled lr, SGD", TRAINED),
            *(below(f"loss with scaled lr, {name}", TRAINED) for name in ("LARS", "LAMB")),
        ),
    ),
    Claim(
        "large-batch-tuned",
        "Tuned SGD or Adam are not behind LARS and LAMB at a large batch",
        Paper("Nado et al.", 2021, "2102.06356", "LARS and LAMB against Nesterov and Adam"),
        "Once every optimizer is tuned at the large batch, standard ones match the layer-wise ones.",
        SETTING,
        35, False, 16, large_batch,
        (below("loss with tuned lr, SGD or Adam / LARS or LAMB", 1.1),),
    ),
)  # fmt: skip
