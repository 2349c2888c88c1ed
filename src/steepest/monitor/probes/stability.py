"""How large a curvature a chain's steps bear: the preconditioner of each element, and the bound of its momentum.

Gradient descent on a quadratic is stable as long as ``lr * λ < 2``, with Polyak's momentum ``2 + 2 β``, with Nesterov's
``(2 + 2 β) / (1 + 2 β)`` (Cohen et al. 2021, 2103.00065, appendix B); an average of gradients in momentum's place bears
``(2 + 2 β) / (1 - β)``, Adam's 38 at β1 = 0.9, with λ the largest eigenvalue of ``P⁻¹ H`` (Cohen et al. 2022, 2207.14484). Chains
of which nobody has shown such a bound have none here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steepest.language.chain import Chain

__all__ = ["Stability", "flat", "stability_of"]


@dataclass(frozen=True, slots=True)
class Stability:
    """Steps are stable while ``λ(diag(rates) H) < bound``.

    ``rates`` is for each parameter the learning rate over the preconditioner, a number where there is none; ``lr`` is the common
    learning rate, None where groups differ.
    """

    bound: float
    rates: tuple[float | torch.Tensor, ...]
    lr: float | None


def _adam(state: Mapping[str, Any], values: Mapping[str, Any], second: str = "exp_avg_sq") -> torch.Tensor:
    step, corrected = float(state["step"]), values.get("bias_correction", True)
    correction1, correction2 = (1 - values[name] ** step if corrected else 1.0 for name in ("beta1", "beta2"))
    root: torch.Tensor = torch.sqrt(state[second] / correction2) + values["eps"]
    return correction1 * root


def _amsgrad(state: Mapping[str, Any], values: Mapping[str, Any]) -> torch.Tensor:
    return _adam(state, values, "max_exp_avg_sq")


def _rms(state: Mapping[str, Any], values: Mapping[str, Any]) -> torch.Tensor:
    root: torch.Tensor = torch.sqrt(state["square_avg"]) + values["eps"]
    return root


def _adagrad(state: Mapping[str, Any], values: Mapping[str, Any]) -> torch.Tensor:
    root: torch.Tensor = torch.sqrt(state["sum"]) + values["eps"]
    return root


_PRECONDITIONERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], torch.Tensor]] = {
    "scale_by_adam": _adam,
    "scale_by_amsgrad": _amsgrad,
    "scale_by_rms": _rms,
    "scale_by_adagrad": _adagrad,
}
_BESIDE = {"measure", "ema", "skip_nonfinite", "add_decayed_weights", "_remember_first"}
"""Change nothing of it, or (weight decay) little. A clip does not either while it does not clip."""


def stability_of(optimizer: Any) -> Stability | None:
    """None before the first step, and for chains without a known bound."""
    stepper, state, steps = optimizer.stepper, optimizer.state, optimizer.steps
    rates: list[float | torch.Tensor] = []
    bounds, learning = set(), set()
    for chain, group in zip(stepper.chains, optimizer.param_groups, strict=True):
        found = _of_chain(chain, steps)
        if found is None:
            return None
        bound, lr, scale = found
        bounds.add(bound)
        learning.add(lr)
        for param in group["params"]:
            if scale is None:
                rates.append(lr)
            elif state.get(param):
                rates.append(lr / _PRECONDITIONERS[scale[0]](state[param], scale[1]))
            else:
                return None
    if len(bounds) != 1:
        return None
    return Stability(bounds.pop(), tuple(rates), learning.pop() if len(learning) == 1 else None)


def _of_chain(chain: Chain, steps: int) -> tuple[float, float, tuple[str, Mapping[str, Any]] | None] | None:
    """The bound, the learning rate, and the preconditioner with its values."""
    bound, lr = 2.0, 0.0
    scale: tuple[str, Mapping[str, Any]] | None = None
    averaged = False
    for link in chain:
        values = {**{n: float(v(steps) if callable(v) else v) for n, v in link.values}, **dict(link.structure)}
        if link.selectors and link.name not in _BESIDE:
            return None
        if link.name in _PRECONDITIONERS and scale is None and not averaged:
            scale = link.name, values
            if "beta1" in values:
                averaged, bound = True, (2 + 2 * values["beta1"]) / (1 - values["beta1"])
        elif link.name == "accumulate_momentum" and not averaged:
            averaged, momentum = True, values["momentum"]
            ahead = 1 + 2 * momentum if values["nesterov"] else 1 - values["dampening"]
            bound = (2 + 2 * momentum) / ahead
        elif link.name == "descend":
            lr = values["lr"]
        elif link.name not in _BESIDE and "clip" not in link.name:
            return None
    return bound, lr, scale


def flat(rates: Sequence[float | torch.Tensor], params: Sequence[torch.Tensor]) -> torch.Tensor:
    """The rates of all elements in one vector."""
    return torch.cat([_filled(r, p).reshape(-1) for r, p in zip(rates, params, strict=True)])


def _filled(rate: float | torch.Tensor, param: torch.Tensor) -> torch.Tensor:
    return rate.to(param).expand_as(param) if isinstance(rate, torch.Tensor) else torch.full_like(param, rate)
