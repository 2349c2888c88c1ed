"""Random sensible chains, problems and gradients for hypothesis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

import steepest as s

decays = st.sampled_from([0.0, 0.5, 0.9, 0.99])
small = st.sampled_from([1e-3, 0.01, 0.1, 0.5])
orders = st.sampled_from([1.0, 2.0, 3.0, math.inf])

UPDATES = st.one_of(
    st.builds(lambda a: s.clip_by_value(-a, a), small),
    st.builds(lambda n, o: s.clip_by_global_norm(n, o), small, orders),
    st.builds(lambda n, o: s.clip_by_norm(n, o), small, orders),
    st.builds(lambda n: s.clip_by_block_rms(n), small),
    st.builds(lambda n, a: s.adaptive_grad_clip(n, axis=a), small, st.sampled_from([0, -1])),
    st.builds(lambda d: s.add_decayed_weights(d), small),
    st.builds(lambda m, d, n: s.accumulate_momentum(m, d, n), decays, decays, st.booleans()),
    st.builds(lambda a, b: s.scale_by_adam(a, b), decays, decays),
    st.builds(lambda a, b: s.scale_by_radam(a, b), decays, st.sampled_from([0.9, 0.99])),
    st.builds(lambda a, b: s.scale_by_nadam(a, b), decays, decays),
    st.builds(lambda a, b: s.scale_by_lion(a, b), decays, decays),
    st.builds(lambda a: s.scale_by_rms(a, 1e-3), decays),
    st.builds(lambda a: s.scale_by_adagrad(a, 1e-3), small),
    st.builds(lambda c: s.scale_by_trust_ratio(c), small),
    st.builds(
        lambda k: s.measure(every=k, length=lambda update: s.norm(update, per="model"), mean=_tensor_mean),
        st.sampled_from([1, 2]),
    ),
    st.just(s.negate()),
)
AFTER = st.one_of(
    st.builds(lambda k, a: s.lookahead(k, a), st.integers(1, 3), decays),
    st.builds(lambda d, i, b: s.ema(d, i, b), decays, st.integers(1, 3), st.booleans()),
)


def _tensor_mean(update):
    return s.mean(update, per="tensor")


@st.composite
def chains(draw: st.DrawFn, most: int = 5) -> s.Chain:
    """Some update rules, descend, perhaps wrappers."""
    before = draw(st.lists(UPDATES, max_size=most))
    after = draw(st.lists(AFTER, max_size=2))
    lr = draw(st.sampled_from([0.1, s.schedules.linear(0.1, 0.0, 5)]))
    return s.chain(*before, s.descend(lr), *after)


@dataclass
class Problem:
    params: list[np.ndarray]
    grads: list[list[np.ndarray | None]]


SHAPES = st.sampled_from([(), (0,), (1,), (7,), (3, 4), (1, 5), (2, 3, 2), (0, 3), (33,)])


@st.composite
def problems(draw: st.DrawFn, dtype: type = np.float64, special: bool = False) -> Problem:
    """Parameters and gradients over a few steps; ``special`` puts nan, infinities, zeros and subnormals among them."""
    shapes = draw(st.lists(SHAPES, min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    params = [np.asarray(rng.normal(size=shape), dtype=dtype) for shape in shapes]
    steps = draw(st.integers(1, 4))
    grads: list[list[np.ndarray | None]] = []
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, np.finfo(dtype).smallest_subnormal], dtype=dtype)
    for _ in range(steps):
        step: list[np.ndarray | None] = []
        for shape in shapes:
            g = np.asarray(rng.normal(size=shape), dtype=dtype)
            if special and g.size and rng.random() < 0.5:
                g.reshape(-1)[rng.integers(g.size)] = odd[rng.integers(len(odd))]
            step.append(None if rng.random() < 0.1 else g)
        grads.append(step)
    return Problem(params, grads)
