"""Claims on large batches: LARS and LAMB train on where SGD's scaled learning rate fails; what tuning makes of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import steepest
from steepest.schedules import cosine
from steepest.workbench.digits import data
from steepest.workbench.reproduce.claim import Claim, Figures, Paper, below, mean_of, ratio_of
from steepest.workbench.reproduce.tasks import best_rate, digits, end, rates

__all__ = ["CLAIMS"]

Make = Callable[..., steepest.Chain]

SMALL = 32
EPOCHS = 30


def chains(
    lars: Make, lamb: Make, steps: int
) -> Mapping[str, tuple[Callable[[float], steepest.Chain], list[float], float]]:
    """By name: the chain of a peak lr, the rates that a search tries, and the exponent of the batch's growth that scales lr.

    All warm up over a tenth of the steps and fall by a cosine. LARS and LAMB leave the biases to their inner rule.
    """

    def rate(lr: float) -> Callable[[int], float]:
        return cosine(lr, steps, warmup=steps // 10)

    return {
        "SGD": (lambda lr: steepest.sgd(rate(lr), momentum=0.9, nesterov=True), rates(0.003, 3.0), 1.0),
        "Adam": (lambda lr: steepest.adam(rate(lr)), rates(3e-4, 0.1), 0.5),
        "LARS": (lambda lr: lars(rate(lr), trust_coefficient=0.01), rates(0.1, 100.0), 0.5),
        "LAMB": (lambda lr: lamb(rate(lr)), rates(1e-3, 0.3), 0.5),
    }


def large_batch(seeds: Sequence[int], lars: Make = steepest.lars, lamb: Make = steepest.lamb) -> Figures:
    """The whole training set as one batch, for as many epochs as with small ones: a fortieth of the steps."""
    whole = len(data()["train"][0])
    per_epoch = -(-whole // SMALL)
    losses: dict[str, dict[str, list[float]]] = {"scaled": {}, "tuned": {}}
    chosen = []
    small = chains(lars, lamb, EPOCHS * per_epoch)
    for name, (make, tried, exponent) in chains(lars, lamb, EPOCHS).items():
        lr = best_rate(digits(SMALL, EPOCHS * per_epoch), small[name][0], tried, seeds=(1000,))
        scaled = lr * (whole / SMALL) ** exponent
        tuned = best_rate(digits(whole, EPOCHS), make, [*tried, *(tried[-1] * r for r in (10**0.5, 10.0))])
        chosen.append(f"{name} {lr:.2g}, {scaled:.2g}, {tuned:.2g}")
        for which, rate in (("scaled", scaled), ("tuned", tuned)):
            losses[which][name] = [end(digits(whole, EPOCHS), make(rate), seed) for seed in seeds]

    def better(which: str, *names: str) -> list[float]:
        """The losses of whichever of some optimizers has the least median."""
        found: list[float] = min((losses[which][name] for name in names), key=lambda row: float(np.median(row)))
        return found

    return {
        "loss with scaled lr, LARS or LAMB": mean_of(better("scaled", "LARS", "LAMB")),
        "loss with scaled lr, LARS or LAMB / SGD": ratio_of(better("scaled", "LARS", "LAMB"), better("scaled", "SGD")),
        "loss with tuned lr, SGD or Adam / LARS or LAMB": ratio_of(
            better("tuned", "SGD", "Adam"), better("tuned", "LARS", "LAMB")
        ),
        "median losses": "; ".join(
            f"{which}: " + ", ".join(f"{n} {np.median(row):.3f}" for n, row in rows.items())
            for which, rows in losses.items()
        ),
        "lr for batches of 32, scaled, tuned": "; ".join(chosen),
    }


SETTING = (
    "digits, 30 epochs: batches of 32, then the whole set as one batch (30 steps); warm-up and cosine; SGD's lr scaled "
    "linearly, the others' by the root; test loss"
)
CLAIMS = (
    Claim(
        "large-batch-scaled",
        "LARS or LAMB with scaled lr beat SGD with scaled lr at a large batch",
        Paper("You et al.", 2017, "1708.03888", "large batches; LAMB: 1904.00962"),
        "Where the linear scaling of SGD's learning rate breaks down, layer-wise rates still train.",
        SETTING,
        20, False, 16, large_batch,
        (
            below("loss with scaled lr, LARS or LAMB", 0.5 * math.log(10)),  # half of what guessing costs
            below("loss with scaled lr, LARS or LAMB / SGD", 0.95),
        ),
    ),
    Claim(
        "large-batch-tuned",
        "Tuned SGD or Adam are not behind LARS and LAMB at a large batch",
        Paper("Nado et al.", 2021, "2102.06356", "LARS and LAMB against Nesterov and Adam"),
        "Once every optimizer is tuned at the large batch, standard ones match the layer-wise ones.",
        SETTING,
        20, False, 16, large_batch,
        (below("loss with tuned lr, SGD or Adam / LARS or LAMB", 1.1),),
    ),
)  # fmt: skip
