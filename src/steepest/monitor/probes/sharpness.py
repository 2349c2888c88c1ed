"""Sharpness: the largest eigenvalue of the loss's Hessian, and how near it is to what the optimizer's steps bear."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch

from steepest.checks import Count, Range, check_value
from steepest.monitor.probes import Subject, Values
from steepest.monitor.probes.eigenvalue import Found, largest_eigenvalue
from steepest.monitor.probes.stability import flat, stability_of
from steepest.monitor.probes.untouched import untouched

__all__ = ["Sharpness"]

_ANEW = 10
_Tolerance = Annotated[float, Range(0, 1, low_included=False, high_included=False, structure=True)]


class Sharpness:
    """Measures the curvature in the sharpest direction, by products of the Hessian with vectors.

    A measurement starts from the last one's eigenvector, so that a few products are enough; every tenth starts anew, since an
    eigenvector remains one when another has become the largest. Training with full
    batches drives it to the edge of stability, where it stays (Cohen et al. 2021, 2103.00065); far above, a training is about to
    diverge, and a warm-up or a smaller learning rate brings it down (Gilmer et al. 2021, 2110.04369).

    Parameters
    ----------
    loss_fn : returns the loss to differentiate twice, of the same examples at each call: ``lambda: criterion(model(x), y)``.
    every : in steps, >= 1; 100.
    tolerance : the residual at which an eigenvalue counts as found, relative to it, in (0, 1); 1e-2. Its error is at most that,
        and usually about its square.
    most : products per eigenvalue at most, >= 1; 50.

    Values
    ------
    sharpness : the largest eigenvalue of the Hessian.
    sharpness_edge : the share of the largest stable step that the learning rate takes: ``lr * sharpness / 2`` for plain gradient
        descent, with the bound of its momentum for others, and with the preconditioned Hessian for Adam, RMSprop and Adagrad
        (1.0 where ``lr`` times its largest eigenvalue is 38, at β1 = 0.9: Cohen et al. 2022, 2207.14484). Missing for chains
        without a known bound. Weight decay is left out.
    sharpness_preconditioned : the largest eigenvalue of ``P⁻¹ H``, where there is a preconditioner.
    sharpness_products : how many products it took; ``most`` says that an eigenvalue is not exact to the tolerance.

    Notes
    -----
    Price, at each ``every``-th step: one forward pass, one backward pass that keeps its graph, and ``sharpness_products`` backward
    passes of it; a dozen vectors of the model's size. For a language model of 3.7 million parameters under AdamW, whose two
    eigenvalues it needs, 6 steps, and 26 where it starts anew (``benchmarks/probes.py``): at every hundredth step 6 to 8% in all.
    """

    def __init__(
        self,
        loss_fn: Callable[[], torch.Tensor],
        *,
        every: int = 100,
        tolerance: float = 1e-2,
        most: int = 50,
        name: str = "sharpness",
    ) -> None:
        if not callable(loss_fn):
            raise TypeError(f"Sharpness: loss_fn must be a function that returns the loss, got {loss_fn!r}.")
        check_value("Sharpness", "every", every, Count)
        check_value("Sharpness", "tolerance", tolerance, _Tolerance)
        check_value("Sharpness", "most", most, Count)
        self.loss_fn, self.every, self.tolerance, self.most, self.name = loss_fn, every, tolerance, most, name
        self._subject: Subject | None = None
        self._vectors: dict[str, torch.Tensor] = {}
        self._measured = 0

    def start(self, subject: Subject) -> None:
        if not all(isinstance(p, torch.Tensor) for p in subject.params):
            raise TypeError(
                "Sharpness: the parameters must be torch's, got NumPy arrays. The loss is differentiated twice."
            )
        self._subject = subject

    def before(self, step: int) -> None:
        """Nothing has to be seen beforehand."""

    def measure(self, step: int) -> Values:
        assert self._subject is not None
        params = [p for p in self._subject.params if p.requires_grad]
        stability = stability_of(self._subject.optimizer)
        if self._measured % _ANEW == 0:
            self._vectors = {}
        self._measured += 1
        with untouched(self._subject.model), _twice_differentiable(self._subject.model):
            product = _hessian(self.loss_fn(), params)
            found = self._largest("plain", product, params)
            values = {self.name: found.value}
            used = found.products
            if stability is not None:
                top = found.value * (stability.lr or 0.0)
                if stability.lr is None or any(isinstance(rate, torch.Tensor) for rate in stability.rates):
                    stepped = [
                        rate for rate, p in zip(stability.rates, self._subject.params, strict=True) if p.requires_grad
                    ]
                    root = flat(stepped, params).sqrt()
                    preconditioned = self._largest("scaled", lambda v: root * product(root * v), params)
                    top, used = preconditioned.value, used + preconditioned.products
                    if stability.lr:
                        values[f"{self.name}_preconditioned"] = top / stability.lr
                values[f"{self.name}_edge"] = top / stability.bound
        return {**values, f"{self.name}_products": float(used)}

    def close(self) -> None:
        self._vectors = {}

    def _largest(self, kind: str, product: Callable[[torch.Tensor], torch.Tensor], params: list[torch.Tensor]) -> Found:
        start = self._vectors.get(kind)
        if start is None:
            # Of its own random numbers, so that a run with this probe is the run without it, and repeats itself.
            made = torch.Generator("cpu").manual_seed(self._measured)
            first = params[0]
            size = sum(p.numel() for p in params)
            start = torch.randn(size, generator=made, dtype=torch.float32, device="cpu").to(
                first.device, _computed(first.dtype)
            )
        found = largest_eigenvalue(product, start, self.tolerance, self.most)
        self._vectors[kind] = found.vector
        return found


def _hessian(loss: torch.Tensor, params: list[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Products of the loss's Hessian with flat vectors."""
    grads = torch.autograd.grad(loss, params, create_graph=True, materialize_grads=True)
    curved = [(g, number) for number, g in enumerate(grads) if g.requires_grad]
    sizes, dtype = [p.numel() for p in params], _computed(params[0].dtype)

    def product(vector: torch.Tensor) -> torch.Tensor:
        if not curved:  # the loss is linear in all of them
            return torch.zeros_like(vector)
        parts = [v.view_as(p).to(p.dtype) for v, p in zip(torch.split(vector, sizes), params, strict=True)]
        along = [parts[number] for _, number in curved]
        with torch.enable_grad():
            found = torch.autograd.grad(
                [g for g, _ in curved], params, grad_outputs=along, retain_graph=True, materialize_grads=True
            )
        return torch.cat([f.detach().reshape(-1).to(dtype) for f in found])

    return product


def _computed(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


@contextlib.contextmanager
def _twice_differentiable(model: Any) -> Iterator[None]:
    """Attention by its formula, and recurrent layers without cuDNN: the fast kernels have no second derivative."""
    recurrent = isinstance(model, torch.nn.Module) and any(isinstance(m, torch.nn.RNNBase) for m in model.modules())
    slowly = torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), slowly:
        yield
