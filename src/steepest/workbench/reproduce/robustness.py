"""Claims on how much care an optimizer needs: Lookahead's robustness, SGDR's early results, AdamW's separable grid."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

import steepest
from steepest.schedules import cosine, multi_step, warm_restarts
from steepest.workbench.reproduce.claim import Claim, Figures, Paper, below, mean_of, ratio_of
from steepest.workbench.reproduce.tasks import best_rate, digits, end, ends, rates

__all__ = ["CLAIMS"]

Make = Callable[..., steepest.Chain]


# ---- Lookahead


def _apart(middle: float, factor: float) -> tuple[float, float]:
    return middle / math.sqrt(factor), middle * math.sqrt(factor)


def lookahead_robustness(
    seeds: Sequence[int],
    wrap: Make = steepest.lookahead,
    steps: int = 200,
    lrs: Sequence[float] = (0.01, 0.03, 0.1, 0.3),
) -> Figures:
    work = digits(64, steps)
    settings = [(lr, momentum) for lr in lrs for momentum in (0.9, 0.99)]
    wraps = [(k, alpha) for k in (5, 10) for alpha in (0.5, 0.8)]
    # The same factors, 2 and 1.6, around the lr and the momentum that k and alpha are tried with.
    alike = [(lr, rest) for lr in _apart(0.1, 2.0) for rest in _apart(0.1, 1.6)]

    def logs(chains: Sequence[steepest.Chain], seed: int) -> list[float]:
        return [math.log(end(work, chain, seed)) for chain in chains]

    inner = [logs([steepest.sgd(lr, momentum=m) for lr, m in settings], s) for s in seeds]
    outer = [logs([steepest.sgd(lr, momentum=m) | wrap(5, 0.5) for lr, m in settings], s) for s in seeds]
    own = [logs([steepest.sgd(0.1, momentum=0.9) | wrap(k, alpha) for k, alpha in wraps], s) for s in seeds]
    equal = [logs([steepest.sgd(lr, momentum=1 - rest) for lr, rest in alike], s) for s in seeds]
    deviations = [[max(statistics.pstdev(row), 1e-9) for row in rows] for rows in (inner, outer, own, equal)]
    return {
        "spread over lr and momentum, Lookahead / SGD": ratio_of(deviations[1], deviations[0]),
        "spread over k and alpha / SGD's over as much of lr and momentum": ratio_of(deviations[2], deviations[3]),
        "mean loss over lr and momentum, Lookahead / SGD": ratio_of(
            [math.exp(statistics.mean(row)) for row in outer], [math.exp(statistics.mean(row)) for row in inner]
        ),
    }


# ---- SGDR

RESTARTS = (20, 60, 140, 300)


def sgdr_anytime(
    seeds: Sequence[int], restarts: Callable[..., Callable[[int], float]] = warm_restarts, lrs: Sequence[float] = ()
) -> Figures:
    steps = RESTARTS[-1]
    schedules: dict[str, Callable[[float], Callable[[int], float]]] = {
        "SGDR": lambda lr: restarts(lr, RESTARTS[0], 2),
        "steps": lambda lr: multi_step(lr, (round(0.3 * steps), round(0.6 * steps), round(0.8 * steps)), 0.2),
        "cosine": lambda lr: cosine(lr, steps),
    }
    lrs = lrs or rates(0.03, 1.0)
    losses, chosen = {}, []
    for name, schedule in schedules.items():

        def make(lr: float, schedule: Callable[[float], Callable[[int], float]] = schedule) -> steepest.Chain:
            return steepest.sgd(schedule(lr), momentum=0.9)

        lr = best_rate(digits(64, steps), make, lrs)
        chosen.append(f"{name} {lr}")
        losses[name] = [[end(digits(64, n), make(lr.rate), seed) for seed in seeds] for n in RESTARTS]
    early = {
        name: [math.exp(statistics.mean(map(math.log, column))) for column in zip(*rows[:-1], strict=True)]
        for name, rows in losses.items()
    }
    return {
        **{
            f"loss at the first three restarts, SGDR / {other}": ratio_of(early["SGDR"], early[other])
            for other in ("steps", "cosine")
        },
        "last loss, SGDR / steps": ratio_of(losses["SGDR"][-1], losses["steps"][-1]),
        "last loss, SGDR / cosine": ratio_of(losses["SGDR"][-1], losses["cosine"][-1]),
        "peaks that a search chose": ", ".join(chosen),
    }


# ---- AdamW


def slope_of_best(table: NDArray[np.float64], lrs: Sequence[float], decays: Sequence[float]) -> float:
    """How the best decay goes with lr: the exponent of lr, by least squares. A row of losses for each lr."""
    best = np.log(decays)[table.argmin(axis=1)]
    return float(np.polyfit(np.log(lrs), best, 1)[0])


def adamw_grid(
    seeds: Sequence[int],
    make: Make = steepest.adamw,
    steps: int = 200,
    lrs: Sequence[float] = (),
    decays: Sequence[float] = (),
) -> Figures:
    """The paper's decay is not multiplied by lr: ``weight_decay`` here is the paper's over lr. Cells of the grid are chosen by
    validation losses; the loss of the best is its test loss."""
    work = digits(64, steps, kept=400, flipped=0.25)
    lrs, decays = lrs or rates(3e-3, 3e-2, 4), decays or rates(1e-4, 3e-2)

    def table(chain_of: Callable[[float, float], steepest.Chain], seed: int) -> NDArray[np.float64]:
        return np.array([[ends(work, chain_of(lr, decay), seed) for decay in decays] for lr in lrs])

    def best(table: NDArray[np.float64]) -> float:
        validation, test = np.moveaxis(table, -1, 0)
        return float(test.flat[validation.argmin()])

    decoupled = [table(lambda lr, decay: make(cosine(lr, steps), weight_decay=decay / lr), s) for s in seeds]
    coupled = [table(lambda lr, decay: steepest.adam(cosine(lr, steps), weight_decay=decay), s) for s in seeds]
    signed = [[slope_of_best(t[..., 0], lrs, decays) for t in tables] for tables in (decoupled, coupled)]
    slopes = [[abs(slope) for slope in row] for row in signed]
    edges = (0, len(decays) - 1)
    at_edge = [
        statistics.mean(int(best) in edges for t in tables for best in t[..., 0].argmin(axis=1))
        for tables in (decoupled, coupled)
    ]
    return {
        "|exponent of lr in the best decay|, AdamW": mean_of(slopes[0]),
        "|exponent of lr in the best decay|, Adam-L2": mean_of(slopes[1]),
        "|exponent|, AdamW with the decay times lr, as here and in PyTorch": mean_of(
            [abs(slope - 1) for slope in signed[0]]
        ),
        "difference of the exponents, AdamW - Adam-L2": mean_of([a - b for a, b in zip(*slopes, strict=True)]),
        "best decays at the edge of the grid": "AdamW {:.0%}, Adam-L2 {:.0%}".format(*at_edge),
        "best loss of the grid, AdamW / Adam-L2": ratio_of([best(t) for t in decoupled], [best(t) for t in coupled]),
    }


CLAIMS = (
    Claim(
        "lookahead-robustness",
        "Lookahead depends less on the inner optimizer's lr and momentum",
        Paper("Zhang et al.", 2019, "1907.08610", "section 5"),
        "Less sensitive to the inner lr and momentum, and hardly to its own k and alpha.",
        "digits, 200 steps; SGD with lr 0.01 to 0.3 and momentum 0.9 and 0.99; deviation of the log test loss over these; k by 2 "
        "and alpha by 1.6 against lr by 2 and 1 - momentum by 1.6, around lr 0.1 and momentum 0.9; 16 seeds, since 6 had left it "
        "undecided",
        25, False, 16, lookahead_robustness,
        (
            below("spread over lr and momentum, Lookahead / SGD", 0.95),
            below("spread over k and alpha / SGD's over as much of lr and momentum", 1.0),
            below("mean loss over lr and momentum, Lookahead / SGD", 1.0),  # what does not learn is robust, too
        ),
    ),
    Claim(
        "sgdr-anytime",
        "SGDR is ahead of schedules without restarts at the end of its cycles",
        Paper("Loshchilov and Hutter", 2017, "1608.03983", "figure 1"),
        "Restarts improve what is reached early: SGDR is then ahead of schedules without them, and at the end not behind.",
        "digits, 300 steps, restarts after 20, 60 and 140; peak lr of each schedule tuned for the last step; test loss",
        15, False, 24, sgdr_anytime,
        (
            *(below(f"loss at the first three restarts, SGDR / {other}", 0.95) for other in ("steps", "cosine")),
            below("last loss, SGDR / cosine", 1.1),
        ),
    ),
    Claim(
        "adamw-separable",
        "AdamW's best decay depends less on lr than Adam's L2, and its best result is better",
        Paper("Loshchilov and Hutter", 2019, "1711.05101", "figures 1 to 3"),
        "Over lr and decay the good results of Adam-L2 lie along a diagonal, those of AdamW along the axes.",
        "400 digits, a quarter of the labels random, 200 steps, cosine; 5 x 6 grid of lr and decay, its cells chosen by "
        "validation loss; test loss",
        20, False, 6, adamw_grid,
        (
            below("difference of the exponents, AdamW - Adam-L2", 0.0),
            below("best loss of the grid, AdamW / Adam-L2", 1.0),
        ),
    ),
)  # fmt: skip
