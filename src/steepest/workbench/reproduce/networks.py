"""Claims on whole networks in torch: the edge of stability, warm-up and RAdam in a transformer with norms after the residual."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

import steepest
import steepest.numpy as opt
from steepest.schedules import warmup
from steepest.workbench.digits import data
from steepest.workbench.reproduce.claim import Claim, Figures, Paper, above, below, mean_of, near, ratio_of
from steepest.workbench.reproduce.tasks import end
from steepest.workbench.workload import TorchTask, Workload

__all__ = ["CLAIMS"]

Array = NDArray[np.float64]
Make = Callable[..., steepest.Chain]


# ---- the edge of stability

EXAMPLES, HIDDEN = 500, 32


def tanh_network(seed: int) -> tuple[Array, Callable[[Array], tuple[float, Array]]]:
    """Initial weights of a network 64-32-10 on 500 digits, as one vector, and its squared loss with the gradient, whole batch."""
    x, y = data()["train"]
    pixels = x[:EXAMPLES].astype(float)
    inputs = np.column_stack([pixels - pixels.mean(axis=0), np.ones(EXAMPLES)])
    targets = np.eye(10)[y[:EXAMPLES]]
    rng = np.random.default_rng(seed)
    shapes = (inputs.shape[1], HIDDEN), (HIDDEN + 1, 10)
    parts = [rng.standard_normal(shape) / math.sqrt(shape[0]) for shape in shapes]
    border = parts[0].size

    def loss_and_gradient(w: Array) -> tuple[float, Array]:
        first, second = w[:border].reshape(shapes[0]), w[border:].reshape(shapes[1])
        hidden = np.tanh(inputs @ first)
        error = (hidden @ second[:-1] + second[-1] - targets) / EXAMPLES
        inner = (error @ second[:-1].T) * (1 - hidden * hidden)
        gradient = np.concatenate([(inputs.T @ inner).ravel(), (hidden.T @ error).ravel(), error.sum(axis=0)])
        return float((error * error).sum() * EXAMPLES / 2), gradient

    return np.concatenate([part.ravel() for part in parts]), loss_and_gradient


def sharpness(gradient: Callable[[Array], Array], w: Array, scale: Array | None = None) -> float:
    """The largest eigenvalue of the Hessian, or of ``D H D`` with ``D = diag(scale)``, from differences of gradients."""
    d = np.ones_like(w) if scale is None else scale

    def product(v: Array) -> Array:
        direction = d * v.ravel()
        length = 1e-5 / max(float(np.linalg.norm(direction)), 1e-30)
        return d * (gradient(w + length * direction) - gradient(w - length * direction)) / (2 * length)

    operator = LinearOperator((w.size, w.size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(w.size)
    return float(eigsh(operator, k=1, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)[0])


def sharpened(chain: steepest.Chain, seed: int, steps: int, preconditioned: bool = False) -> tuple[float, float]:
    """The sharpness at the start (after a hundredth of the steps) and the median over the last quarter of them."""
    w, loss_and_gradient = tanh_network(seed)
    optimizer = opt.Optimizer([w], chain)

    def gradient(at: Array) -> Array:
        return loss_and_gradient(at)[1]

    found = []
    for step in range(1, steps + 1):
        optimizer.step([gradient(w)])
        if not np.isfinite(w).all():
            return math.inf, math.inf
        if step % (steps // 100) == 0 and (step <= steps // 100 or step > 3 * steps // 4):
            scale = None
            if preconditioned:
                (state,) = optimizer.state.values()
                scale = 1 / np.sqrt(np.sqrt(state["exp_avg_sq"] / (1 - 0.999**step)) + 1e-8)
            found.append(sharpness(gradient, w, scale))
    return found[0], float(np.median(found[1:]))


def edge_of_descent(seeds: Sequence[int], make: Make = steepest.sgd, lr: float = 0.4, steps: int = 4000) -> Figures:
    plain = [sharpened(make(lr), s, steps) for s in seeds]
    heavy = [sharpened(make(1.5 * lr, momentum=0.9), s, steps) for s in seeds]
    return {
        "lr × sharpness, start": mean_of([lr * first for first, _ in plain]),
        "lr × sharpness, end": mean_of([lr * last for _, last in plain]),
        "lr × sharpness, momentum 0.9, end": mean_of([1.5 * lr * last for _, last in heavy]),
    }


def edge_of_adam(seeds: Sequence[int], make: Make = steepest.adam, lr: float = 2e-3, steps: int = 4000) -> Figures:
    found = [sharpened(make(lr), s, steps, preconditioned=True) for s in seeds]
    return {
        "lr × preconditioned sharpness, start": mean_of([lr * first for first, _ in found]),
        "lr × preconditioned sharpness, end": mean_of([lr * last for _, last in found]),
    }


# ---- warm-up

CONTEXT, BATCH = 32, 16
WARM_UP_RATES = (1e-3, 3e-3, 1e-2)


def post_norm(steps: int, layers: int = 4) -> Workload:
    """The King James Bible by characters; a decoder with its norms after each sum, stretches of 32, batches of 16."""
    import torch
    from torch.nn import functional

    from steepest.workbench.workloads import data as texts
    from steepest.workbench.workloads.char_gpt import Decoder
    from steepest.workbench.workloads.supervised import seeded

    text = texts.kjv()
    characters = sorted(set(text))
    numbers = torch.tensor([characters.index(c) for c in text])
    parts = {"train": numbers[:-100_000], "validation": numbers[-100_000:-50_000], "test": numbers[-50_000:]}

    def start(seed: int) -> TorchTask:
        with seeded(seed):
            model = Decoder(len(characters), layers, pre_norm=False)

        def loss_of(part: str, starts: NDArray[np.integer]) -> torch.Tensor:
            stretches = parts[part][torch.from_numpy(starts)[:, None] + torch.arange(CONTEXT + 1)]
            return functional.cross_entropy(model(stretches[:, :-1]).flatten(0, 1), stretches[:, 1:].flatten())

        def loss(step: int) -> torch.Tensor:
            rng = np.random.default_rng([seed, 1, step])
            return loss_of("train", rng.integers(0, len(parts["train"]) - CONTEXT, BATCH))

        def evaluate(part: str) -> dict[str, float]:
            return {"loss": float(loss_of(part, np.arange(0, len(parts[part]) - CONTEXT - 1, 2000)))}

        return TorchTask(model, loss, evaluate)

    return Workload("post-norm", start, steps=steps, failed=1.5 * math.log(len(characters)))


def radam_warm_up(
    seeds: Sequence[int], make: Make = steepest.radam, steps: int = 400, lrs: Sequence[float] = WARM_UP_RATES
) -> Figures:
    """Losses at the end, over the rates; with beta2 = 0.99 the untuned warm-up of 2/(1-beta2) steps fits into the run."""
    work = post_norm(steps)
    betas = (0.9, 0.99)
    makes: dict[str, Make] = {
        "Adam": steepest.adam,
        "warm-up": lambda lr, **rest: steepest.adam(warmup(round(2 / (1 - betas[1])), lr), **rest),
        "RAdam": make,
    }
    losses = {name: [[end(work, one(lr, betas=betas), s) for s in seeds] for lr in lrs] for name, one in makes.items()}
    return {
        **{
            f"loss at lr {lr:g}, {name} / Adam with warm-up": ratio_of(losses[name][i], losses["warm-up"][i])
            for i, lr in enumerate(lrs)
            for name in ("RAdam", "Adam")
        },
        "median losses": "; ".join(
            f"{name} " + ", ".join(f"{np.median(row):.3f}" for row in rows) for name, rows in losses.items()
        ),
    }


CLAIMS = (
    Claim(
        "edge-of-stability",
        "Gradient descent trains at the edge of stability",
        Paper("Cohen et al.", 2021, "2103.00065", "whole-batch gradient descent, with and without momentum"),
        "The sharpness rises until it is 2/lr, with heavy ball 2(1 + momentum)/lr, and stays about there.",
        "500 digits, tanh network 64-32-10, squared loss, whole batch, lr 0.4, with momentum 0.6; median over "
        "steps 3,000 to 4,000",
        10, False, 4, edge_of_descent,
        (
            below("lr × sharpness, start", 1.5),
            near("lr × sharpness, end", 2.0, 0.2),
            near("lr × sharpness, momentum 0.9, end", 3.8, 0.38),
        ),
    ),
    Claim(
        "adam-edge-of-stability",
        "Adam trains at an edge of stability of its own",
        Paper("Cohen et al.", 2022, "2207.14484", "whole-batch Adam"),
        "The sharpness of the preconditioned problem rises until it is (2 + 2 beta1)/((1 - beta1) lr), which is 38/lr at 0.9.",
        "500 digits, tanh network 64-32-10, squared loss, whole batch, lr 0.002; median over steps 3,000 to "
        "4,000",
        10, False, 4, edge_of_adam,
        (below("lr × preconditioned sharpness, start", 30.0), near("lr × preconditioned sharpness, end", 38.0, 3.8)),
    ),
    Claim(
        "radam-warm-up",
        "RAdam does without the warm-up that Adam needs",
        Paper("Liu et al.; Ma and Yarats", 2020, "1908.03265", "figure 1; 1910.04209, untuned warm-up"),
        "A transformer with its norms after the residual fails under Adam without warm-up; RAdam ends as Adam with warm-up does.",
        "post-norm decoder of 4 layers on characters, 400 steps, beta2 0.99, warm-up of 2/(1-beta2) = 200 steps; lr "
        "0.001, 0.003 and 0.01; test loss",
        300, False, 6, radam_warm_up,
        (
            *(near(f"loss at lr {lr:g}, RAdam / Adam with warm-up", 1.0, 0.1) for lr in WARM_UP_RATES),
            above(f"loss at lr {WARM_UP_RATES[-1]:g}, Adam / Adam with warm-up", 1.1),
        ),
    ),
)  # fmt: skip
