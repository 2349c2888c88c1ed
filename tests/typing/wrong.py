"""Mistakes: type checkers report each line that ends in ``# wrong``, and no other. This file never runs.

Lines that end in ``# wrong (pyright)`` are those that mypy doesn't see. The untyped arguments of a rule match more than one
overload of `rule`, so mypy takes the hyperparameters of the rule for Any. A tensor is Any here, since the test leaves torch out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import steepest
import steepest.monitor
import steepest.numpy
import steepest.torch as opt

# Recipes.

steepest.adammmm()  # wrong
steepest.adamw(lrr=1)  # wrong
steepest.adamw("fast")  # wrong
steepest.adamw(betas=(0.9,))  # wrong
steepest.adamw(1e-3, amsgrad="yes")  # wrong
steepest.sgd(lambda: 0.1)  # wrong
steepest.clip_by_value(-1)  # wrong
steepest.chain(steepest.adamw)  # wrong
steepest.adamw() | 3  # wrong
steepest.schedules.cosine(1e-3, stepps=10)  # wrong

# The library's rules.

steepest.clip_by_global_norm()  # wrong
steepest.clip_by_global_norm(1.0, on_nonfinit="skip")  # wrong
steepest.clip_by_global_norm(1.0, on_nonfinite="ignore")  # wrong
steepest.lookahead(5, 0.5, 3)  # wrong
steepest.descend("fast")  # wrong
steepest.descend(lr="fast")  # wrong
print(steepest.lookahead.functionn)  # wrong

# Rules and recipes of one's own.


@steepest.rule(exp_avg=steepest.zeros)
def sign_momentum(update, state, *, beta: steepest.Decay = 0.9, nesterov: bool = False):
    state.exp_avg = beta * state.exp_avg + (1 - beta) * update
    return steepest.sign(state.exp_avg)


@steepest.recipe
def own(lr: steepest.NonNegative, *, nesterov: bool = False) -> steepest.Chain:
    return sign_momentum(nesterov=nesterov) | steepest.descend(lr)


sign_momentum(bta=0.9)  # wrong (pyright)
sign_momentum(nesterov="yes")  # wrong (pyright)
sign_momentum("fast")  # wrong (pyright)
own()  # wrong
own(0.1, beta=0.9)  # wrong
own(0.1, nesterov="yes")  # wrong
steepest.rule(exp_avg=0.0)  # wrong


@steepest.recipe  # wrong
def no_chain(lr: steepest.NonNegative) -> float:
    return 0.1


# PyTorch.

params = [torch.nn.Parameter(torch.ones(2))]
opt.AdamW()  # wrong
opt.AdamW(params, lrr=1)  # wrong
opt.AdamW(params, "fast")  # wrong (pyright)
opt.AdamW(params, betas=0.9)  # wrong
opt.AdamW(params, maximize="yes")  # wrong
opt.Lion(params, fused=True)  # wrong
opt.SGD(params, 0.1, 0.9, 0.0, 0.0, False, True)  # wrong
opt.AdamWW(params)  # wrong
opt.Lookahead(params)  # wrong
opt.Optimizer(params, steepest.adamw)  # wrong
opt.Optimizer(3, steepest.adamw())  # wrong (pyright)


class Slower(opt.AdamW):
    def __init__(self, params: Any) -> None:
        super().__init__(params, rate=0.1)  # wrong


# NumPy.

weights = [np.ones(2)]
steepest.numpy.AdamW(weights, lrr=1)  # wrong
steepest.numpy.AdamW(weights, "fast")  # wrong
steepest.numpy.AdamW(3)  # wrong
steepest.numpy.AdamW(weights, fused=True)  # wrong
adam: steepest.numpy.Adam = steepest.numpy.SGD(weights)  # wrong
steepest.numpy.Adam(weights).stepp([np.ones(2)])  # wrong

# Monitor and workbench.

steepest.Monitor(adam, evry=10)  # wrong
steepest.Monitor(adam, every="often")  # wrong
steepest.Monitr(adam)  # wrong
print(steepest.monitor.Monitr)  # wrong
steepest.Guard(adam, skipp=1)  # wrong
steepest.TensorBoard()  # wrong
steepest.workbench.compaer("digits-mlp")  # wrong
steepest.workbench.compare("digits-mlp", jobs="many")  # wrong
