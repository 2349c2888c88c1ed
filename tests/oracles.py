"""The oracles: a row for each rule and option, beside code that this project did not write.

An oracle is a function of parameters and one list of gradients per step that returns the parameters after the last step, in
the type it was given.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import steepest as s

jax.config.update("jax_enable_x64", True)

Arrays = list[np.ndarray]
Oracle = Callable[[Arrays, Sequence[Arrays]], Arrays]


_FOUND = PathFinder.find_spec("timm")  # wherever it is, also where somebody has put a stub for it already
assert _FOUND is not None and _FOUND.submodule_search_locations, "timm is missing; `make test` installs it"
TIMM = Path(next(iter(_FOUND.submodule_search_locations)))


def timm_module(name: str) -> Any:
    """A module of timm without its packages' ``__init__``, which need torchvision."""
    root = TIMM
    for package in ("timm", "timm.optim", "timm.utils"):
        if package not in sys.modules:
            stub = types.ModuleType(package)
            stub.__path__ = [str(root.joinpath(*package.split(".")[1:]))]
            sys.modules[package] = stub
    return importlib.import_module(name)


@dataclass(frozen=True)
class ByTorch:
    """An optimizer in the form of ``torch.optim``. Its states are compared as well, name by name."""

    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]

    def __call__(self, params: Arrays, grads: Sequence[Arrays]) -> Arrays:
        return self.run(params, grads)[0]

    def run(self, params: Arrays, grads: Sequence[Arrays]) -> tuple[Arrays, list[dict[str, Any]]]:
        tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
        optimizer = self.make(tensors)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in the default type
        try:
            for step in grads:
                for t, g in zip(tensors, step, strict=True):
                    t.grad = torch.from_numpy(g.copy())
                optimizer.step()
        finally:
            torch.set_default_dtype(before)
        states = [{n: np.asarray(v) for n, v in optimizer.state[t].items() if v is not None} for t in tensors]
        return [t.detach().numpy() for t in tensors], states


def by_optax(make: Callable[[], Any]) -> Oracle:
    def run(params: Arrays, grads: Sequence[Arrays]) -> Arrays:
        transform = make()
        held = [jax.numpy.asarray(p) for p in params]
        state = transform.init(held)
        update = jax.jit(transform.update)
        for step in grads:
            updates, state = update([jax.numpy.asarray(g) for g in step], state, held)
            held = optax.apply_updates(held, updates)
        return [np.asarray(p) for p in held]

    return run


def by_optax_lookahead(inner: Callable[[], Any], k: int, alpha: float) -> Oracle:
    def run(params: Arrays, grads: Sequence[Arrays]) -> Arrays:
        transform = optax.lookahead(inner(), k, alpha)
        held = optax.LookaheadParams.init_synced([jax.numpy.asarray(p) for p in params])
        state = transform.init(held)
        for step in grads:
            updates, state = transform.update([jax.numpy.asarray(g) for g in step], state, held)
            held = optax.apply_updates(held, updates)
        return [np.asarray(p) for p in held.fast]

    return run


def clipped_by_torch(
    clip: Callable[[list[torch.nn.Parameter]], Any],
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer] = lambda p: torch.optim.SGD(p, lr=0.1),
) -> Oracle:
    def run(params: Arrays, grads: Sequence[Arrays]) -> Arrays:
        tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
        optimizer = make(tensors)
        for step in grads:
            for t, g in zip(tensors, step, strict=True):
                t.grad = torch.from_numpy(g.copy())
            clip(tensors)
            optimizer.step()
        return [t.detach().numpy() for t in tensors]

    return run


def averaged_by_torch(decay: float, interval: int = 1) -> Oracle:
    def run(params: Arrays, grads: Sequence[Arrays]) -> Arrays:
        module = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params])
        average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for number, step in enumerate(grads, 1):
            for t, g in zip(module, step, strict=True):
                t.grad = torch.from_numpy(g.copy())
            optimizer.step()
            if number % interval == 0:
                average.update_parameters(module)
        return [t.detach().numpy() for t in average.module]

    return run


def averaged_by_optax(decay: float) -> Oracle:
    """Optax averages updates; here they are the weights."""

    def run(params: Arrays, grads: Sequence[Arrays]) -> Arrays:
        average = optax.ema(decay, debias=True)
        held = list(params)
        state = average.init(held)
        for step in grads:
            held = [p - p.dtype.type(0.1) * g for p, g in zip(held, step, strict=True)]
            seen, state = average.update(held, state)
        return [np.asarray(p) for p in seen]

    return run


def each_clipped(tensors: list[torch.nn.Parameter]) -> None:
    for t in tensors:
        torch.nn.utils.clip_grad_norm_([t], 0.7)


def agc(tensors: list[torch.nn.Parameter]) -> None:
    timm_module("timm.utils.agc").adaptive_clip_grad(tensors, clip_factor=0.05, eps=1e-3)


SHAPES = ((4, 3), (5,), (), (2, 3, 2, 2), (1, 7))


@dataclass(frozen=True)
class Row:
    """A chain, its oracle, and (rarely) the state that is compared instead of the parameters.

    ``joined`` says that a norm of the model stands in the chain, so that tensors can't be run one by one.
    """

    name: str
    chain: s.Chain
    oracle: Oracle
    compares: str = "param"
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    joined: bool = False


T = torch.optim
ROWS = [
    Row("sgd", s.sgd(0.1), ByTorch(lambda p: T.SGD(p, 0.1))),
    Row(
        "sgd momentum dampening decay",
        s.sgd(0.1, 0.9, 0.3, 0.01),
        ByTorch(lambda p: T.SGD(p, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.01)),
    ),
    Row(
        "sgd nesterov maximize",
        s.sgd(0.1, 0.9, nesterov=True, maximize=True),
        ByTorch(lambda p: T.SGD(p, 0.1, momentum=0.9, nesterov=True, maximize=True)),
    ),
    Row(
        "adagrad lr_decay decay initial value",
        s.adagrad(0.1, lr_decay=0.02, weight_decay=0.01, initial_accumulator_value=0.1),
        ByTorch(lambda p: T.Adagrad(p, 0.1, lr_decay=0.02, weight_decay=0.01, initial_accumulator_value=0.1)),
    ),
    Row(
        "adagrad eps maximize",
        s.adagrad(0.1, eps=0.1, maximize=True),
        ByTorch(lambda p: T.Adagrad(p, 0.1, eps=0.1, maximize=True)),
    ),
    Row("rmsprop", s.rmsprop(0.01), ByTorch(lambda p: T.RMSprop(p, 0.01))),
    Row(
        "rmsprop centered eps maximize",
        s.rmsprop(0.01, eps=0.1, centered=True, maximize=True),
        ByTorch(lambda p: T.RMSprop(p, 0.01, eps=0.1, centered=True, maximize=True)),
    ),
    Row(
        "rmsprop centered momentum decay",
        s.rmsprop(0.01, 0.9, weight_decay=0.01, momentum=0.8, centered=True),
        ByTorch(lambda p: T.RMSprop(p, 0.01, alpha=0.9, weight_decay=0.01, momentum=0.8, centered=True)),
    ),
    Row("adam", s.adam(0.01), ByTorch(lambda p: T.Adam(p, 0.01))),
    Row(
        "adam decay amsgrad maximize",
        s.adam(0.01, (0.8, 0.99), weight_decay=0.1, amsgrad=True, maximize=True),
        ByTorch(lambda p: T.Adam(p, 0.01, (0.8, 0.99), weight_decay=0.1, amsgrad=True, maximize=True)),
    ),
    Row(
        "adamw maximize",
        s.adamw(0.01, weight_decay=0.1, maximize=True),
        ByTorch(lambda p: T.AdamW(p, 0.01, weight_decay=0.1, maximize=True)),
    ),
    Row(
        "adamw amsgrad eps",
        s.adamw(0.01, (0.9, 0.99), 0.1, weight_decay=0.1, amsgrad=True),
        ByTorch(lambda p: T.AdamW(p, 0.01, (0.9, 0.99), 0.1, weight_decay=0.1, amsgrad=True)),
    ),
    # Optax rectifies from rho >= 5 on, this project and PyTorch where rho > 5; no step here has rho = 5.
    # It also adds epsilon after the bias correction, so there is none here.
    Row("radam optax", s.radam(0.01, eps=0.0), by_optax(lambda: optax.radam(0.01, eps=0.0))),
    Row(
        "radam coupled decay maximize",
        s.radam(0.01, (0.9, 0.99), weight_decay=0.1, maximize=True),
        ByTorch(lambda p: T.RAdam(p, 0.01, (0.9, 0.99), weight_decay=0.1, maximize=True)),
    ),
    Row(
        "radam decoupled decay",
        s.radam(0.01, weight_decay=0.1, decoupled_weight_decay=True),
        ByTorch(lambda p: T.RAdam(p, 0.01, weight_decay=0.1, decoupled_weight_decay=True)),
    ),
    Row(
        "nadam coupled decay maximize",
        s.nadam(0.01, weight_decay=0.1, maximize=True),
        ByTorch(lambda p: T.NAdam(p, 0.01, weight_decay=0.1, maximize=True)),
    ),
    Row(
        "nadam decoupled decay",
        s.nadam(0.01, weight_decay=0.1, momentum_decay=0.01, decoupled_weight_decay=True),
        ByTorch(lambda p: T.NAdam(p, 0.01, weight_decay=0.1, momentum_decay=0.01, decoupled_weight_decay=True)),
    ),
    Row(
        "adamax decay maximize",
        s.adamax(0.01, weight_decay=0.1, maximize=True),
        ByTorch(lambda p: T.Adamax(p, 0.01, weight_decay=0.1, maximize=True)),
    ),
    Row(
        "adadelta decay maximize",
        s.adadelta(1.0, 0.95, weight_decay=0.1, maximize=True),
        ByTorch(lambda p: T.Adadelta(p, 1.0, rho=0.95, weight_decay=0.1, maximize=True)),
    ),
    Row("lion", s.lion(0.01, weight_decay=0.1), by_optax(lambda: optax.lion(0.01, 0.9, 0.99, weight_decay=0.1))),
    Row("lamb", s.lamb(0.01, weight_decay=0.1), by_optax(lambda: optax.lamb(0.01, weight_decay=0.1))),
    Row(
        "lamb timm without decay",
        s.lamb(0.01),
        ByTorch(
            lambda p: timm_module("timm.optim.lamb").Lamb(
                p, 0.01, weight_decay=0.0, max_grad_norm=None, always_adapt=True
            )
        ),
    ),
    Row(
        "lamb timm without bias correction",
        s.lamb(0.01, weight_decay=0.1, bias_correction=False),
        ByTorch(
            lambda p: timm_module("timm.optim.lamb").Lamb(
                p, 0.01, bias_correction=False, weight_decay=0.1, grad_averaging=True, max_grad_norm=None
            )
        ),
    ),
    Row("lars", s.lars(1.0, weight_decay=0.1), by_optax(lambda: optax.lars(1.0, weight_decay=0.1))),
    Row(
        "lars nesterov eps",
        s.lars(1.0, 0.8, 0.1, 0.01, 1e-3, nesterov=True),
        by_optax(lambda: optax.lars(1.0, 0.1, trust_coefficient=0.01, eps=1e-3, momentum=0.8, nesterov=True)),
    ),
    Row(
        "lars timm",
        s.lars(1.0, 0.9, 0.1, norms_apart=True, lr_in_momentum=False),
        ByTorch(
            lambda p: timm_module("timm.optim.lars").Lars(
                p, 1.0, momentum=0.9, weight_decay=0.1, eps=0.0, always_adapt=True
            )
        ),
    ),
    Row(
        "lars timm behind a clip",
        s.chain(s.clip_by_norm(0.7), s.lars(1.0, 0.9, 0.1, norms_apart=True, lr_in_momentum=False)),
        clipped_by_torch(
            each_clipped,
            lambda p: timm_module("timm.optim.lars").Lars(
                p, 1.0, momentum=0.9, weight_decay=0.1, eps=0.0, always_adapt=True
            ),
        ),
    ),
    Row(
        "lars timm nesterov eps without decay",
        s.lars(1.0, 0.8, 0.0, 0.01, 1e-3, nesterov=True, norms_apart=True, lr_in_momentum=False),
        ByTorch(
            lambda p: timm_module("timm.optim.lars").Lars(
                p, 1.0, momentum=0.8, nesterov=True, trust_coeff=0.01, eps=1e-3, always_adapt=True
            )
        ),
    ),
    Row("lookahead", s.chain(s.adam(0.01), s.lookahead(5, 0.5)), by_optax_lookahead(lambda: optax.adam(0.01), 5, 0.5)),
    Row("ema", s.chain(s.sgd(0.1), s.ema(0.9)), averaged_by_torch(0.9), compares="average"),
    Row("ema interval", s.chain(s.sgd(0.1), s.ema(0.9, 4)), averaged_by_torch(0.9, 4), compares="average"),
    Row(
        "ema bias correction",
        s.chain(s.sgd(0.1), s.ema(0.9, bias_correction=True)),
        averaged_by_optax(0.9),
        compares="average",
    ),
    Row(
        "clip by value",
        s.chain(s.clip_by_value(-0.3, 0.3), s.sgd(0.1)),
        clipped_by_torch(lambda p: torch.nn.utils.clip_grad_value_(p, 0.3)),
    ),
    *(
        Row(
            f"clip by global norm {order}",
            s.chain(s.clip_by_global_norm(0.7, order), s.sgd(0.1)),
            clipped_by_torch(lambda p, order=order: torch.nn.utils.clip_grad_norm_(p, 0.7, order)),
            joined=True,
        )
        for order in (1.0, 2.0, 3.0, float("inf"))
    ),
    Row("skip nonfinite", s.chain(s.skip_nonfinite(), s.sgd(0.1)), ByTorch(lambda p: T.SGD(p, 0.1)), joined=True),
    Row("clip by norm", s.chain(s.clip_by_norm(0.7), s.sgd(0.1)), clipped_by_torch(each_clipped)),
    Row(
        "clip by block rms",
        s.chain(s.clip_by_block_rms(0.5), s.sgd(0.1)),
        by_optax(lambda: optax.chain(optax.clip_by_block_rms(0.5), optax.sgd(0.1))),
    ),
    Row("agc", s.chain(s.adaptive_grad_clip(0.05), s.sgd(0.1)), clipped_by_torch(agc)),
    # Optax takes a (1, 7) kernel as one unit, so that shape is left out.
    Row(
        "agc last axis",
        s.chain(s.adaptive_grad_clip(0.05, axis=-1), s.sgd(0.1)),
        by_optax(lambda: optax.chain(optax.adaptive_grad_clip(0.05), optax.sgd(0.1))),
        shapes=SHAPES[:4],
    ),
]
