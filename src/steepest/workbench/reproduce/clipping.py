"""Claims on clipping: it rescues recurrent networks, it beats gradient descent where curvature grows with the gradient, and by
unit it makes large batches trainable without batch normalisation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

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
from steepest.workbench.reproduce.tasks import rates
from steepest.workbench.statistics import Interval

__all__ = ["CLAIMS"]

Make = Callable[..., steepest.Chain]


# ---- recurrent networks


def clipped_recurrent(
    seeds: Sequence[int],
    clip: Make = steepest.clip_by_global_norm,
    length: int = 20,
    steps: int = 1500,
    lr: float = 0.1,
) -> Figures:
    from steepest.workbench.training import train
    from steepest.workbench.workloads.rnn_memory import temporal_order

    work = temporal_order("temporal-order", length=length, radius=1.3, steps=steps)

    def solved(chain: steepest.Chain) -> int:
        return sum(train(work, chain, seed).validation.get("accuracy", 0.0) > 0.99 for seed in seeds)

    n = len(seeds)
    free, clipped = solved(steepest.sgd(lr)), solved(clip(1.0) | steepest.sgd(lr))
    return {
        "solved with clipping": f"{clipped} of {n}",
        "solved without": f"{free} of {n}",
        "difference of the success rates": difference_of_rates(clipped, free, n),
        "Fisher's p": fisher(clipped, free, n),
    }


# ---- curvature that grows with the gradient


def clipped_quartic(seeds: Sequence[int], clip: Make = steepest.clip_by_global_norm) -> Figures:
    """Steps until w⁴ stays below 1e-4, from 73, each method with the best lr of its grid."""
    limit = 5_000

    def steps(chain: steepest.Chain) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            path = weights_over(chain, lambda w, _: 4 * w**3, np.array([73.0]), limit)[:, 0]
        far = np.flatnonzero(~(np.abs(path) < 0.1))
        return float(far[-1] + 1) if far[-1] < limit else math.inf

    plain = {lr: steps(steepest.sgd(lr)) for lr in rates(1e-6, 1e-2)}
    clipped = {
        (lr, norm): steps(clip(norm) | steepest.sgd(lr)) for lr in rates(1e-3, 1.0) for norm in (1.0, 10.0, 100.0)
    }
    best, best_clipped = min(plain.values()), min(clipped.values())
    return {
        "steps with clipping": known(best_clipped),
        "steps without": f"more than {limit}" if math.isinf(best) else f"{best:g}",
        "steps with clipping / without": known(best_clipped / min(best, limit)),
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

    from steepest.workbench.training import train
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

    def accuracy(chain: steepest.Chain, batch: int, seed: int) -> float:
        def start(seed: int) -> object:
            with seeded(seed):
                model = Network()
            return classification(model, parts, batch, seed)

        work = Workload("mnist-cnn", start, steps=steps, metric="accuracy", higher_is_better=True)  # type: ignore[arg-type]  # a TorchTask
        return train(work, chain, seed).test.get("accuracy", 0.0)

    def accuracies(batch: int, seed: int, before: steepest.Chain) -> dict[float, float]:
        return {lr: accuracy(before | steepest.sgd(lr, momentum=0.9, nesterov=True), batch, seed) for lr in lrs}

    figures: dict[str, Interval | str] = {}
    gains: list[list[float]] = []
    for batch in batches:
        plain = [accuracies(batch, s, steepest.Chain()) for s in seeds]
        clipped = [accuracies(batch, s, steepest.exclude(clip(0.1), "head.*")) for s in seeds]
        largest = [
            [
                max((lr for lr, a in found.items() if a >= max(free.values()) - 0.05), default=lrs[0])
                for found in (free, bound)
            ]
            for free, bound in zip(plain, clipped, strict=True)
        ]
        gains.append([math.log10(with_clip / without) for without, with_clip in largest])
        figures[f"decades of lr gained, batch {batch}"] = mean_of(gains[-1])
        best = (statistics.median(max(found.values()) for found in runs) for runs in (plain, clipped))
        figures[f"best accuracy, batch {batch}"] = "{:.3f}, with AGC {:.3f}".format(*best)
    figures["decades gained at the large batch beyond the small one"] = mean_of(
        [large - small for small, large in zip(*gains, strict=True)]
    )
    return figures


CLAIMS = (
    Claim(
        "clipping-recurrent",
        "Clipping by norm rescues a recurrent network from exploding gradients",
        Paper("Pascanu, Mikolov and Bengio", 2013, "1211.5063", "section 4, temporal order"),
        "SGD with clipping solves the temporal order problem where SGD without it fails.",
        "50 tanh units, spectral radius 1.3, 20 times, SGD lr 0.1, 1,500 steps; solved: above 99 % of held-out sequences",
        60, False, 16, clipped_recurrent,
        (above("difference of the success rates", 0.4), significant("Fisher's p")),
    ),
    Claim(
        "clipping-curvature",
        "Clipping beats gradient descent where curvature grows with the gradient",
        Paper("Zhang et al.", 2020, "1905.11881", "clipping under (L0, L1)-smoothness"),
        "Under (L0, L1)-smoothness gradient descent is as slow as the largest curvature asks; clipped descent is not.",
        "w⁴ from w = 73 to 0.1, lr and threshold from grids",
        3, False, 1, clipped_quartic,
        (below("steps with clipping / without", 0.1),),
    ),
    Claim(
        "agc-large-batch",
        "Adaptive clipping makes large learning rates stable at large batches without batch normalisation",
        Paper("Brock et al.", 2021, "2102.06171", "figure 2"),
        "At large batches, networks without normalisation train at larger lr with adaptive clipping; at small ones less so.",
        "MNIST 14 x 14, normaliser-free CNN, Nesterov, lr 0.03 to 3, 60 steps; largest lr within 5 points of the best accuracy "
        "without clipping",
        140, False, 6, agc_large_batch,
        (above("decades of lr gained, batch 1000", 0.3), below("decades of lr gained, batch 64", 0.3)),
    ),
)  # fmt: skip
