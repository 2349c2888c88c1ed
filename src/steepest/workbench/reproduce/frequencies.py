"""Claims on what is rare and what changes: AdaGrad on sparse features, adaptive steps on rare classes, a moving optimum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

import steepest
import steepest.numpy as opt
from steepest.workbench.reproduce.claim import (
    Claim,
    Figures,
    Paper,
    above,
    below,
    geometric_mean_of,
    known,
    near,
    ratio_of,
)
from steepest.workbench.reproduce.tasks import SEARCH, Searched, largest, rates, searched
from steepest.workbench.workloads import data

__all__ = ["CLAIMS"]

Array = NDArray[np.float64]
Make = Callable[..., steepest.Chain]


def softmax(scores: Array) -> Array:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


# ---- sparse features


@cache
def bags() -> tuple[list[Array], NDArray[np.int64], NDArray[np.int64], int]:
    """Names of Unicode's characters: indices of the words of each, its category, how often its rarest word comes, word count."""
    names, categories = data.unicode_names()
    labels = {category: i for i, category in enumerate(sorted(set(categories)))}
    split = [sorted(set(name.split())) for name in names]
    counts = Counter(word for words in split for word in words)
    place = {word: i for i, word in enumerate(sorted(counts))}
    rarest = np.array([min(counts[word] for word in words) for words in split])
    rows = [np.array([place[word] for word in words]) for words in split]
    return rows, np.array([labels[c] for c in categories]), rarest, len(counts)


def online(chain: steepest.Chain, seed: int, examples: int, batch: int = 10) -> Array:
    """One pass of logistic regression over names in random order: the loss on each before it is learnt from."""
    rows, categories, _, words = bags()
    order = np.random.default_rng(seed).permutation(len(rows))[:examples]
    weights = np.zeros((words, int(categories.max()) + 1), dtype=np.float32)
    optimizer = opt.Optimizer([weights], chain)
    losses = np.empty(len(rows))
    losses[:] = np.nan
    with np.errstate(all="ignore"):
        for low in range(0, len(order), batch):
            chosen = order[low : low + batch]
            shares = softmax(np.stack([weights[rows[i]].sum(axis=0) for i in chosen]).astype(float))
            own = np.arange(len(chosen)), categories[chosen]
            losses[chosen] = np.minimum(-np.log(shares[own]), 20.0)
            shares[own] -= 1
            grads = np.zeros_like(weights)
            for i, delta in zip(chosen, shares, strict=True):
                grads[rows[i]] += (delta / len(chosen)).astype(np.float32)
            optimizer.step([grads])
    return losses


RARE = 10


def adagrad_sparse(seeds: Sequence[int], make: Make = steepest.adagrad, examples: int = 6000) -> Figures:
    """SGD with the better of a constant rate and one that falls as 1/√t, as its regret bound asks."""
    rarest = bags()[2]

    def mean(losses: Array) -> float:
        return float(np.nan_to_num(np.nanmean(losses), nan=20.0))

    def found(recipe: Make, tried: Sequence[float]) -> Searched:
        def cost(lr: float) -> float:
            return float(np.mean([mean(online(recipe(lr), s, examples)) for s in SEARCH]))

        return searched(cost, tried)

    def falling(lr: float) -> steepest.Chain:
        return steepest.sgd(lambda t: lr / math.sqrt(1 + t / 100))

    of_sgd = {recipe: found(recipe, rates(0.3, 30.0)) for recipe in (steepest.sgd, falling)}
    recipe, best = min(of_sgd.items(), key=lambda item: item[1].cost)
    best_adaptive = found(make, rates(0.03, 3.0))
    plain, adaptive = recipe(best.rate), make(best_adaptive.rate)
    runs = [(online(adaptive, s, examples), online(plain, s, examples)) for s in seeds]
    rare, common = rarest <= RARE, rarest > RARE
    of_rare = ratio_of([mean(a[rare]) for a, _ in runs], [mean(b[rare]) for _, b in runs])
    pairs = [(mean(a[rare]) / mean(b[rare]), mean(a[common]) / mean(b[common])) for a, b in runs]
    return {
        "online loss, AdaGrad / SGD": ratio_of([mean(a) for a, _ in runs], [mean(b) for _, b in runs]),
        "online loss on names with a rare word, AdaGrad / SGD": of_rare,
        "the same ratio, rare / common": ratio_of([r for r, _ in pairs], [c for _, c in pairs]),
        "lr that a search chose": f"SGD {best}{', falling' if recipe is falling else ''}; AdaGrad {best_adaptive}",
    }


# ---- a moving optimum


def moving_optimum(seeds: Sequence[int], moving: Make = steepest.rmsprop, stopping: Make = steepest.adagrad) -> Figures:
    """Mean squared distance to an optimum on a random walk, over steps 1,000 to 2,000 and 9,000 to 10,000; 100 walks a seed."""

    def tracking(chain: steepest.Chain, seed: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        w, optimum = np.zeros(100), np.zeros(100)
        optimizer = opt.Optimizer([w], chain)
        errors = []
        for _ in range(10_000):
            optimum += 0.01 * rng.standard_normal(100)
            optimizer.step([w - optimum + rng.standard_normal(100)])
            errors.append(float(((w - optimum) ** 2).mean()))
        return float(np.mean(errors[1000:2000])), float(np.mean(errors[9000:]))

    lr = 0.01
    averages = [tracking(moving(lr), s) for s in seeds]
    sums = [tracking(stopping(10 * lr), s) for s in seeds]
    return {
        "AdaGrad's error, late / early": ratio_of([late for _, late in sums], [early for early, _ in sums]),
        "RMSProp's error, late / early": ratio_of([late for _, late in averages], [early for early, _ in averages]),
    }


# ---- rare classes


def rare_classes(
    seeds: Sequence[int], make: Make = steepest.adam, groups: int = 7, level: float = 0.1, limit: int = 1500
) -> Figures:
    """Groups of 1, 2, 4, … classes of equal mass: each class of the last has one example. Judged where the mean loss of all is
    first below ``level``, at the largest lr that needs 100 steps to get there: no step so long that all is learnt at once."""
    size, width = 2 ** (groups - 1), 128
    labels = np.concatenate([2**g - 1 + np.arange(size) % 2**g for g in range(groups)])
    own = np.arange(len(labels)), labels

    def run(chain: steepest.Chain, seed: int) -> tuple[float, float]:
        """Steps to the level, and there the loss of the rarest three groups over that of the most frequent three; infinite both
        where the level is never reached."""
        rng = np.random.default_rng(seed)
        means = rng.standard_normal((2**groups - 1, width))[labels]
        x = (means + rng.standard_normal((len(labels), width))) / math.sqrt(width)
        weights = np.zeros((width, 2**groups - 1))
        optimizer = opt.Optimizer([weights], chain)
        for step in range(limit):
            shares = softmax(x @ weights)
            loss = -np.log(np.maximum(shares[own], 1e-12))
            if loss.mean() < level:
                return float(step), float(loss[-3 * size :].mean() / loss[: 3 * size].mean())
            shares[own] -= 1
            optimizer.step([x.T @ (shares / len(labels))])
        return math.inf, math.inf

    def tuned(recipe: Make, tried: Sequence[float]) -> tuple[float, list[tuple[float, float]]]:
        lr = largest(lambda lr: all(100 <= run(recipe(lr), s)[0] < math.inf for s in SEARCH), tried)
        return lr, [run(recipe(lr), s) for s in seeds]

    plain_rate, plain = tuned(steepest.sgd, rates(0.1, 100.0))
    adaptive_rate, adaptive = tuned(make, rates(1e-3, 0.1, 4))
    return {
        "loss of rare / frequent classes, SGD": geometric_mean_of([ratio for _, ratio in plain]),
        "loss of rare / frequent classes, Adam": geometric_mean_of([ratio for _, ratio in adaptive]),
        "share of seeds that reach the level": known(float(np.mean([s < math.inf for s, _ in (*plain, *adaptive)]))),
        "steps to the level": f"SGD {np.median([s for s, _ in plain]):g}, Adam {np.median([s for s, _ in adaptive]):g}",
        "lr that a search chose": f"SGD {plain_rate:.2g}, Adam {adaptive_rate:.2g}",
    }


CLAIMS = (
    Claim(
        "adagrad-sparse",
        "AdaGrad learns sparse features faster than SGD, rare ones above all",
        Paper("Duchi, Hazan and Singer", 2011, "", "JMLR 12"),
        "With features that are rare and informative AdaGrad's regret is lower than that of gradient descent.",
        "6,000 names of Unicode's characters as bags of words, logistic regression, one pass; both tuned; loss before learning",
        5, False, 5, adagrad_sparse,
        (below("online loss, AdaGrad / SGD", 0.95), below("the same ratio, rare / common", 0.95)),
    ),
    Claim(
        "adagrad-moving-optimum",
        "AdaGrad loses a moving optimum, RMSProp follows it",
        Paper("Zeiler", 2012, "1212.5701", "on AdaGrad's falling rates; RMSProp: Tieleman and Hinton 2012, lecture 6e"),
        "The sum of squares makes AdaGrad's steps vanish; a running average does not.",
        "quadratic with noise whose optimum walks, 10,000 steps, 100 walks a seed",
        5, False, 5, moving_optimum,
        (above("AdaGrad's error, late / early", 1.5), near("RMSProp's error, late / early", 1.0, 0.2)),
    ),
    Claim(
        "rare-classes",
        "Adam learns rare classes as soon as frequent ones, SGD later",
        Paper("Kunstner et al.", 2024, "2402.19449", "figures 1 to 4, linear model"),
        "With many rare classes gradient descent fits the frequent ones alone; Adam fits all at the same speed.",
        "softmax regression, 127 classes in 7 groups of equal mass, class means and noise, whole batch; where the mean loss "
        "reaches 0.1, after 100 steps or more",
        5, False, 6, rare_classes,
        (
            above("loss of rare / frequent classes, SGD", 3.0),
            below("loss of rare / frequent classes, Adam", 2.0),
            above("share of seeds that reach the level", 1.0),
        ),
    ),
)  # fmt: skip
