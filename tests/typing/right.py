"""Calls that are right: no type checker reports an error here, and all of them run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import steepest
import steepest.numpy
import steepest.torch
import steepest.torch as opt
from steepest import schedules

# Own rules and recipes. The first is the README's.


@steepest.rule(exp_avg=steepest.zeros)
def sign_momentum(update, state, *, beta: steepest.Decay = 0.9):
    state.exp_avg = beta * state.exp_avg + (1 - beta) * update
    return steepest.sign(state.exp_avg)


@steepest.rule(exp_avg=steepest.zeros, exp_avg_sq=steepest.full("initial"))
def belief(
    update: Any,
    state: Any,
    step: Any,
    *,
    betas: steepest.Decay = 0.9,
    eps: steepest.NonNegative = 1e-8,
    initial: steepest.Real = 0.0,
) -> Any:
    state.exp_avg = betas * state.exp_avg + (1 - betas) * update
    state.exp_avg_sq = betas * state.exp_avg_sq + (1 - betas) * (update - state.exp_avg) ** 2
    return state.exp_avg / (1 - betas**step) / (steepest.sqrt(state.exp_avg_sq) + eps)


@steepest.rule
def at_most(update: Any, param: Any, *, share: steepest.Fraction = 0.01, flag: bool = False) -> Any:
    longest = share * steepest.maximum(steepest.norm(param, per="tensor"), 1e-3)
    return update * steepest.minimum(1.0, longest / steepest.max(steepest.abs(update), per="tensor"))


@steepest.rule(slow=steepest.copy_of_param)
def pull_back(param: Any, update: Any, grad: Any, state: Any, step: Any, *, k: steepest.Count = 10) -> Any:
    state.slow = steepest.where(step % k == 0, param, state.slow)
    return state.slow


@steepest.recipe
def own(lr: steepest.NonNegative = 1e-3, betas: tuple[steepest.Decay, steepest.Decay] = (0.9, 0.99)) -> steepest.Chain:
    return sign_momentum(beta=betas[0]) | steepest.descend(lr)


def halved(step: int) -> float:
    return 0.1 / (1 + step)


schedule: schedules.Schedule = schedules.cosine(1e-3, steps=100, warmup=10)
chains: list[steepest.Chain] = [
    sign_momentum(),
    sign_momentum(beta=0.95),
    sign_momentum(beta=schedule),
    sign_momentum(0.95),
    belief(betas=0.9, eps=1e-6),
    belief(0.9, eps=1e-6),
    at_most(share=halved, flag=True),
    pull_back(k=5),
    own(),
    own(0.1, betas=(0.9, 0.999)),
    own(lr=schedule),
    own(halved),
]
eagerly = sign_momentum.function
name: str = sign_momentum.name

# The library's recipes and rules, by position and by name, with numbers, schedules and functions of the step.

chains += [
    steepest.adamw(),
    steepest.adamw(1e-3, (0.9, 0.99), weight_decay=0),
    steepest.adamw(lr=schedule, betas=(schedule * 0.5, 0.999)),
    steepest.sgd(halved, momentum=lambda step: 0.9, nesterov=True),
    steepest.lamb(1e-3, clamp=(0.0, 10.0)),
    steepest.clip_by_global_norm(1.0, on_nonfinite="skip"),
    steepest.clip_by_global_norm(max_norm=schedules.constant(1.0)),
    steepest.clip_by_value(-1, 1),
    steepest.lookahead(5, alpha=0.5),
    steepest.ema(0.999, interval=2),
    steepest.skip_nonfinite(),
    steepest.clip_by_norm(1.0) | steepest.scale_by_adam(0.9, beta2=0.99) | steepest.descend(schedule),
    steepest.exclude(steepest.add_decayed_weights(0.01), "*.bias", max_ndim=1),
    steepest.chain(steepest.sgd(0.1), steepest.measure(norm=lambda update: steepest.norm(update, per="model"))),
]
recipes: dict[str, Callable[..., steepest.Chain]] = steepest.OPTIMIZERS
total: Any = steepest.sum(np.ones(3), per="tensor")
builtin: int = sum([1, 2]) + max(1, 2) + abs(-1)

# PyTorch: classes are types, and take groups, named parameters, schedules and tensors of one element.

model = torch.nn.Linear(4, 2)
groups: list[dict[str, Any]] = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias]}]
adamw: opt.AdamW = opt.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
torch_optimizers: list[torch.optim.Optimizer] = [
    adamw,
    opt.AdamW(model.named_parameters(), schedule, (0.9, 0.99), maximize=True),
    opt.SGD(groups, lr=0.01, momentum=0.9, foreach=None),
    opt.Adam(model.parameters(), torch.tensor(1e-3), fused=False, engine="arrays"),
    opt.RMSprop(model.parameters(), lr=halved, centered=True),
    opt.Lookahead(opt.LAMB([model.weight]), k=5),
    opt.Optimizer([{"params": [model.weight], "chain": steepest.sgd(0.1)}]),
    opt.Optimizer(model.parameters(), steepest.clip_by_global_norm(1.0) | steepest.lamb(1e-3)),
]


class Slower(opt.AdamW):
    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr / 2)


slower: opt.AdamW = Slower(model.parameters(), 0.1)
kinds: list[type[opt.Optimizer]] = [opt.AdamW, opt.Lion, Slower]
rates: list[float] = [group["lr"] for group in slower.param_groups]
scheduler = torch.optim.lr_scheduler.StepLR(adamw, 10)
steps: int = adamw.steps

# NumPy.

weights = [np.ones((3, 2)), np.zeros(2)]
adam: steepest.numpy.Adam = steepest.numpy.Adam(weights, lr=schedule)
arrays: list[steepest.numpy.Optimizer] = [
    adam,
    steepest.numpy.SGD({"w": weights[0]}, 0.1, 0.9),
    steepest.numpy.LARS([{"params": weights, "lr": 0.1}], nesterov=True, engine="cpu"),
    steepest.numpy.Lookahead(adam, k=5, alpha=0.5),
    steepest.numpy.Optimizer(weights, own() | steepest.ema()),
]
adam.step([np.ones((3, 2)), None])
adam.param_groups[0]["lr"] = 0.2


# Monitor and workbench.


def train(folder: str) -> None:
    optimizer = opt.AdamW(model.parameters())
    report = steepest.Report(f"{folder}/a.html")
    monitor: steepest.Monitor = steepest.Monitor(optimizer, model, every=10, to=[steepest.Terminal(), report])
    guard: steepest.Guard = steepest.Guard(optimizer, skip=3)
    loss = model(torch.ones(4, 4)).pow(2).mean()
    loss.backward()
    if guard(loss):
        optimizer.step()
    monitor(loss)
    monitor.close()


def compared() -> steepest.workbench.Result:
    budget = steepest.workbench.Budget()
    return steepest.workbench.compare("digits-mlp", ["adamw", "sgd"], budget=budget, jobs=2)
