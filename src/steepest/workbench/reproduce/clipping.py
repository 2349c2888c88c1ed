"""Claims on clipping: it rescues recurrent networks, it beats gradient descent where curvature grows with the gradient, and by
unit it makes large batches trainable without batch normalisation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

import steepest
from steepest.workbench.reproduce.claim import (
    Claim,
    Figures,
    Paper,
    above,
    below,
    difference_of_rates,
    fisher,
    known,
    mean_of,
    significant,
)
from steepest.workbench.reproduce.exact_descent import weights_over
from steepest.workbench.reproduce.tasks import SEARCH, Searched, largest, rates, searched
from steepest.workbench.statistics import Interval
from steepest.workbench.training import Run, train

__all__ = ["CLAIMS"]

Make = Callable[..., steepest.Chain]


# ---- recurrent networks

LENGTH, RADIUS = 20, 1.3
SOLVED = 0.99


def recurrent(steps: int) -> Callable[[steepest.Chain, int], Run]:
    """Temporal order for a tanh network, trained by a chain from a seed."""
    from steepest.workbench.workloads.rnn_memory import temporal_order

    work = temporal_order("temporal-order", length=LENGTH, radius=RADIUS, steps=steps)
    return lambda chain, seed: train(work, chain, seed)


def solved(run: Run) -> bool:
    return run.test.get("accuracy", 0.0) > SOLVED


def clipped_recurrent(
    seeds: Sequence[int],
    clip: Make = steepest.clip_by_global_norm,
    steps: int = 1500,
    lrs: Sequence[float] = (),
) -> Figures:
    """Each side at the lr of its own search."""
    trained = recurrent(steps)

    def successes(make: Callable[[float], steepest.Chain]) -> tuple[int, Searched]:
        def cost(lr: float) -> float:
            return statistics.median(trained(make(lr), seed).cost for seed in SEARCH)

        chosen = searched(cost, lrs or rates(0.01, 0.3))
        return sum(solved(trained(make(chosen.rate), seed)) for seed in seeds), chosen

    n = len(seeds)
    free, free_rate = successes(steepest.sgd)
    clipped, clipped_rate = successes(lambda lr: clip(1.0) | steepest.sgd(lr))
    return {
        "solved with clipping": f"{clipped} of {n}",
        "solved without": f"{free} of {n}",
        "difference of the success rates": difference_of_rates(clipped, free, n),
        "Fisher's p": fisher(clipped, free, n),
        "lr that a search chose": f"with clipping {clipped_rate}, without {free_rate}",
    }


def clipped_rates(
    seeds: Sequence[int],
    clip: Make = steepest.clip_by_global_norm,
    steps: int = 1500,
    lrs: Sequence[float] = (),
) -> Figures:
    """The largest lr that solves the task, seed by seed."""
    trained = recurrent(steps)
    tried = lrs or rates(0.01, 1.0)

    def limit(before: steepest.Chain, seed: int) -> float:
        return largest(lambda lr: solved(trained(before | steepest.sgd(lr), seed)), tried)

    free, clipped = ([limit(before, seed) for seed in seeds] for before in (steepest.Chain(), clip(1.0)))
    gains = [math.log10(b / a) for a, b in zip(free, clipped, strict=True)]
    return {
        "decades of lr gained": mean_of(gains, grid=math.log10(tried[1] / tried[0])),
        "median of the largest lr": f"with clipping {statistics.median(clipped):.2g}, without {statistics.median(free):.2g}",
    }


# ---- curvature that grows with the gradient


NORMS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def clipped_quartic(seeds: Sequence[int], clip: Make = steepest.clip_by_global_norm) -> Figures:
    """Steps until w⁴ stays below 1e-4, from 73, each method with the best lr of its grid."""
    limit = 5_000

    def steps(chain: steepest.Chain) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            path = weights_over(chain, lambda w, _: 4 * w**3, np.array([73.0]), limit)[:, 0]
        far = np.flatnonzero(~(np.abs(path) < 0.1))
        return float(far[-1] + 1) if far[-1] < limit else math.inf

    plain = searched(lambda lr: steps(steepest.sgd(lr)), rates(1e-6, 1e-2))
    by_norm = {norm: searched(lambda lr, n=norm: steps(clip(n) | steepest.sgd(lr)), rates(1e-3, 1.0)) for norm in NORMS}  # type: ignore[misc]  # mypy takes the default for a third argument
    norm, clipped = min(by_norm.items(), key=lambda item: item[1].cost)
    without, chosen = (f"more than {limit}", "none") if math.isinf(plain.cost) else (f"{plain.cost:g}", str(plain))
    return {
        "steps with clipping": known(clipped.cost),
        "steps without": without,
        "steps with clipping / without": known(clipped.cost / min(plain.cost, limit)),
        "lr that a search chose": f"with clipping {clipped}, threshold {norm:g}; without {chosen}",
    }


# ---- large batches without batch normalisation


def agc_large_batch(
    seeds: Sequence[int],
    clip: Make = steepest.adaptive_grad_clip,
    batches: tuple[int, int] = (64, 1000),
    steps: int = 60,
    lrs: Sequence[float] = (),
) -> Figures:
    """The largest lr that still trains: its test accuracy is within 5 points of the best without clipping."""
    import torch

    from steepest.workbench.workload import Workload
    from steepest.workbench.workloads import data
    from steepest.workbench.workloads.mnist_cnn import Network
    from steepest.workbench.workloads.sampling import split
    from steepest.workbench.workloads.supervised import classification, seeded

    pixels, labels = data.mnist()
    images = torch.from_numpy((pixels / 255.0).astype("float32").reshape(-1, 1, 28, 28))
    x, y = torch.nn.functional.avg_pool2d(images, 2), torch.from_numpy(labels.astype("int64"))
    x = (x - x.mean()) / x.std()
    parts = {part: (x[i], y[i]) for part, i in split(labels, 0.1, 0.1).items()}
    lrs = lrs or rates(0.03, 3.0)
    step = math.log10(lrs[1] / lrs[0])

    def accuracies(batch: int, seed: int, before: steepest.Chain) -> Callable[[float], float]:
        def start(seed: int) -> object:
            with seeded(seed):
                model = Network()
            return classification(model, parts, batch, seed)

        work = Workload("mnist-cnn", start, steps=steps, metric="accuracy", higher_is_better=True)  # type: ignore[arg-type]  # a TorchTask

        @cache
        def accuracy(lr: float) -> float:
            chain = before | steepest.sgd(lr, momentum=0.9, nesterov=True)
            return train(work, chain, seed).test.get("accuracy", 0.0)

        return accuracy

    def limits(batch: int, seed: int) -> tuple[float, float, float]:
        """The best accuracy without the clip, and the largest rate within 5 points of it, without and with."""
        free = accuracies(batch, seed, steepest.Chain())
        bound = accuracies(batch, seed, steepest.exclude(clip(0.1), "head.*"))
        best = -searched(lambda lr: -free(lr), lrs).cost
        return best, largest(lambda lr: free(lr) >= best - 0.05, lrs), largest(lambda lr: bound(lr) >= best - 0.05, lrs)

    figures: dict[str, Interval | str] = {}
    gains: list[list[float]] = []
    for batch in batches:
        found = [limits(batch, seed) for seed in seeds]
        gains.append([math.log10(with_clip / without) for _, without, with_clip in found])
        figures[f"decades of lr gained, batch {batch}"] = mean_of(gains[-1], grid=step)
        best, without, with_clip = (statistics.median(column) for column in zip(*found, strict=True))
        figures[f"medians, batch {batch}"] = (
            f"best accuracy without AGC {best:.3f}; largest lr without {without:.2g}, with {with_clip:.2g}"
        )
    figures["decades gained at the large batch beyond the small one"] = mean_of(
        [large - small for small, large in zip(*gains, strict=True)], grid=step
    )
    return figures


CLAIMS = (
    Claim(
        "clipping-recurrent",
        "Clipping by norm rescues a recurrent network that SGD cannot train",
        Paper("Pascanu, Mikolov and Bengio", 2013, "1211.5063", "section 4, temporal order"),
        "SGD with clipping solves the temporal order problem where SGD without it fails.",
        f"50 tanh units, spectral radius {RADIUS}, {LENGTH} times, SGD with and without clipping each at its own best lr, 1,500 "
        "steps; solved: above 99 % of held-out sequences",
        130, False, 16, clipped_recurrent,
        (above("difference of the success rates", 0.4), significant("Fisher's p")),
    ),
    Claim(
        "clipping-larger-rates",
        "Clipping by norm lets a recurrent network train at larger learning rates",
        Paper("Pascanu, Mikolov and Bengio", 2013, "1211.5063", "sections 3.2 and 4, temporal order"),
        "Clipped steps stay small where the gradient explodes, and SGD trains on.",
        "the network and task of clipping-recurrent, lr 0.01 to 1 and beyond while it trains; largest lr that solves the task",
        130, False, 8, clipped_rates,
        (above("decades of lr gained", 0.3),),
    ),
    Claim(
        "clipping-curvature",
        "Clipping beats gradient descent where curvature grows with the gradient",
        Paper("Zhang et al.", 2020, "1905.11881", "clipping under (L0, L1)-smoothness"),
        "Under (L0, L1)-smoothness gradient descent is as slow as the largest curvature asks; clipped descent is not.",
        "w⁴ from w = 73 to 0.1, lr and threshold from grids",
        8, False, 1, clipped_quartic,
        (below("steps with clipping / without", 0.1),),
    ),
    Claim(
        "agc-large-batch",
        "Adaptive clipping makes large learning rates stable at large batches without batch normalisation",
        Paper("Brock et al.", 2021, "2102.06171", "figure 2"),
        "At large batches, networks without normalisation train at larger lr with adaptive clipping; at small ones less so.",
        "MNIST 14 x 14, normaliser-free CNN, Nesterov, lr 0.03 to 3, 60 steps; largest lr within 5 points of the best accuracy "
        "without clipping",
        120, False, 6, agc_large_batch,
        (above("decades of lr gained, batch 1000", 0.3), below("decades of lr gained, batch 64", 0.3)),
    ),
)  # fmt: skip
