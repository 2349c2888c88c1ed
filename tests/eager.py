"""A chain run eagerly: every rule's own function on arrays, without tracer, planner or engines.

One tensor at a time, so a norm of the model is only right where there is one tensor: `run_joined` makes it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

import steepest


def run(chain: steepest.Chain, param: np.ndarray, grads: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The parameter and all states after the steps; states of one name in two links get a number."""
    param = param.copy()
    states = []
    for link in chain:
        values = dict(link.values)
        state = {}
        for name, start in link.state:
            value = values[start.value] if isinstance(start.value, str) else start.value
            state[name] = value if start.on_host else (param.copy() if start.copy else np.full_like(param, value))
        states.append(SimpleNamespace(**state))
    for t, grad in enumerate(grads, 1):
        scope = {"param": param, "grad": grad, "update": grad, "step": float(t)}
        for link, state in zip(chain, states, strict=True):
            if link.function is None:
                continue
            hyper = {n: v(t - 1) if callable(v) else v for n, v in link.values} | dict(link.structure)
            with np.errstate(all="ignore"):
                result = link.function(*({**scope, "state": state}[n] for n in link.reads), **hyper)
            scope[link.reads[0]] = result
        param = np.asarray(scope["param"])
    found: dict[str, np.ndarray] = {"param": param}
    for state in states:
        for name, value in vars(state).items():
            number, key = 1, name
            while key in found:
                number += 1
                key = f"{name}_{number}"
            found[key] = value
    return found


def run_joined(
    chain: steepest.Chain, params: Sequence[np.ndarray], grads: Sequence[Sequence[np.ndarray]], name: str
) -> list[np.ndarray]:
    """The parameters or a state after the steps of a chain whose only norms are the model's: all tensors as one vector."""

    def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([a.ravel() for a in arrays])

    parts = np.split(run(chain, flat(params), [flat(g) for g in grads])[name], np.cumsum([p.size for p in params])[:-1])
    return [part.reshape(p.shape) for part, p in zip(parts, params, strict=True)]
