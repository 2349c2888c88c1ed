"""What the tests of the planner and the engines draw: chains, shapes, groups, gradients; and a chain run by hand.

A drawn chain is one that a person could write: update rules in any order, `descend`, then wrappers. `eager` runs its rules
as plain functions on float64 arrays, without tracer, planner or engine, for a model of one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import steepest
from steepest import Chain

Array = NDArray[Any]

# ---- chains

ELEMENTWISE: list[Callable[[], Chain]] = [
    lambda: steepest.clip_by_value(-0.5, 0.75),
    lambda: steepest.add_decayed_weights(0.01),
    lambda: steepest.negate(),
    lambda: steepest.accumulate_momentum(0.9),
    lambda: steepest.accumulate_momentum(0.8, nesterov=True),
    lambda: steepest.accumulate_momentum(0.8, dampening=0.3),
    lambda: steepest.scale_by_adam(),
    lambda: steepest.scale_by_adam(bias_correction=False),
    lambda: steepest.scale_by_amsgrad(),
    lambda: steepest.scale_by_adamax(),
    lambda: steepest.scale_by_nadam(),
    lambda: steepest.scale_by_radam(),
    lambda: steepest.scale_by_lion(),
    lambda: steepest.scale_by_adagrad(0.1),
    lambda: steepest.scale_by_inverse_time(0.01),
    lambda: steepest.scale_by_rms(),
    lambda: steepest.scale_by_stddev(0.9, 1e-3),
    lambda: steepest.scale_by_adadelta(),
]
PER_TENSOR: list[Callable[[], Chain]] = [
    lambda: steepest.clip_by_norm(0.7),
    lambda: steepest.clip_by_norm(0.7, float("inf")),
    lambda: steepest.clip_by_norm(0.7, 1),
    lambda: steepest.clip_by_norm(0.7, 3),
    lambda: steepest.clip_by_block_rms(0.5),
    lambda: steepest.scale_by_trust_ratio(),
    lambda: steepest.scale_by_trust_ratio(0.02, 1e-8, 0.1, 10.0),
    lambda: steepest.scale_by_lars_ratio(0.01),
    lambda: steepest.measure(length=lambda update: steepest.norm(update, per="tensor")),
]
PER_UNIT: list[Callable[[], Chain]] = [
    lambda: steepest.adaptive_grad_clip(0.05),
    lambda: steepest.adaptive_grad_clip(0.05, axis=-1),
]
PER_MODEL: list[Callable[[], Chain]] = [
    lambda: steepest.clip_by_global_norm(1.0),
    lambda: steepest.clip_by_global_norm(1.0, float("inf")),
    lambda: steepest.clip_by_global_norm(1.0, 1),
    lambda: steepest.clip_by_global_norm(1.0, 3),
    lambda: steepest.clip_by_global_norm(1.0, on_nonfinite="skip"),
    lambda: steepest.clip_by_global_norm(1.0, on_nonfinite="error"),
    lambda: steepest.skip_nonfinite(),
    lambda: steepest.measure(grad_norm=lambda update: steepest.norm(update, per="model")),
    lambda: steepest.measure(every=3, weight_norm=lambda param: steepest.norm(param, per="model")),
]
WRAPPERS: list[Callable[[], Chain]] = [
    lambda: steepest.lookahead(2, 0.5),
    lambda: steepest.ema(0.9),
    lambda: steepest.ema(0.9, interval=2),
    lambda: steepest.ema(0.9, bias_correction=True),
    lambda: steepest.ema(0.9, interval=2, bias_correction=True),
]
ALL = [*ELEMENTWISE, *PER_TENSOR, *PER_UNIT, *PER_MODEL]


@st.composite
def chains(draw: st.DrawFn, rules: Sequence[Callable[[], Chain]] = ALL, most: int = 4, wrappers: int = 2) -> Chain:
    """Up to ``most`` update rules in any order, `descend`, then up to ``wrappers`` wrappers."""
    links = draw(st.lists(st.sampled_from(rules), max_size=most))
    last = draw(st.lists(st.sampled_from(WRAPPERS), max_size=wrappers))
    return steepest.chain(*(make() for make in links), steepest.descend(0.1), *(make() for make in last))


# ---- arrays

SHAPES = [(), (0,), (1,), (7,), (4, 3), (3, 0), (1, 5), (5, 1), (2, 3, 2, 2)]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-310, -1e-310, 1e-42, 1e30, -1e30]


def shapes(most: int = 4) -> st.SearchStrategy[list[tuple[int, ...]]]:
    """The shapes of a model's tensors."""
    return st.lists(st.sampled_from(SHAPES), min_size=1, max_size=most)


def values(seed: int, shape: tuple[int, ...], dtype: Any = np.float64, special: bool = False) -> Array:
    """Ordinary numbers; with ``special`` about every third one is infinite, nan, a zero, subnormal or very large."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=shape)
    if special:
        with np.errstate(all="ignore"):
            made = np.where(rng.random(shape) < 0.3, rng.choice(SPECIAL, size=shape), made)
    with np.errstate(all="ignore"):
        return np.array(made, dtype=dtype)


seeds = st.integers(0, 2**32 - 1)


# ---- a chain by hand


class Eager:
    """A chain's rules as plain functions on one float64 tensor."""

    def __init__(self, chain: Chain, param: Array) -> None:
        self.chain, self.param, self.step_count = chain, np.array(param, dtype=np.float64), 0
        self.states = [SimpleNamespace() for _ in chain]

    def step(self, grad: Array) -> None:
        self.step_count += 1
        scope: dict[str, Any] = {"param": self.param, "grad": grad, "update": grad, "step": float(self.step_count)}
        for link, state in zip(self.chain, self.states, strict=True):
            if link.function is None:
                continue
            hyper = {**dict(link.values), **dict(link.structure)}
            for name, start in link.state:
                if not hasattr(state, name):
                    number = hyper[start.value] if isinstance(start.value, str) else start.value
                    first = np.array(scope["param"]) if start.copy else np.full(self.param.shape, number)
                    setattr(state, name, number if start.on_host else first)
            if self.step_count == 1 and link.state and link.state[0][1].copy:
                for name, _ in link.state:
                    setattr(state, name, self.param.copy())  # copies are taken before the first step
            offered = {**scope, "state": state}
            with np.errstate(all="ignore"):
                scope[link.reads[0]] = link.function(*(offered[n] for n in link.reads), **hyper)
        self.param = np.array(np.broadcast_to(scope["param"], self.param.shape))
