"""The gradient's noise scale: how many examples a batch may have before more of them stop paying.

From the lengths of gradients of two batch sizes both parts of it follow without bias (McCandlish et al. 2018, 1812.06162,
appendix A.1), since ``E|g_B|² = |G|² + tr(Σ) / B``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from steepest.checks import Count, Decay, check_value
from steepest.monitor.probes import Subject, Values
from steepest.monitor.probes.hooks import Hooks

__all__ = ["NoiseScale", "signal_and_noise"]

_FAR_SHORTER = 1e-3
"""Squared lengths: the mean of n gradients that point anywhere is shorter by about n, never by a thousand times that."""


def signal_and_noise(small: float, large: float, small_batch: float, large_batch: float) -> tuple[float, float]:
    """Unbiased estimates of ``|G|²`` and ``tr(Σ)`` from the mean squared lengths of gradients of two batch sizes.

    >>> signal_and_noise(small=9.0 + 32.0 / 4, large=9.0 + 32.0 / 16, small_batch=4, large_batch=16)
    (9.0, 32.0)
    """
    signal = (large_batch * large - small_batch * small) / (large_batch - small_batch)
    noise = (small - large) / (1 / small_batch - 1 / large_batch)
    return signal, noise


class NoiseScale:
    """Measures ``tr(Σ) / |G|²``, in examples: far below it a larger batch needs proportionally fewer steps, far above hardly fewer.

    It compares the gradients of small batches with their mean, and needs at least two of them at a step:

    - from gradient accumulation: hooks see what each backward pass brings, and what has come together;
    - from data-parallel replicas (``replicas=True``): hooks see a process' own gradients, the step those of all together. Clip
      inside the optimizer's chain then, not by `clip_grad_norm_` before the step, and give the gradient scaler if there is one;
    - from batches of its own (``loss_fn``): gradients of ``batches`` further losses, at the weights after the step;
    - from lengths that are known anyway: `add`, which is what there is for NumPy.

    Parameters
    ----------
    batch_size : examples in one small batch: of one backward pass of one process, >= 1.
    every : in steps, >= 1; 10.
    decay : of the running means, one of ``|G|²`` and one of ``tr(Σ)``, in [0, 1); 0.9. Their ratio is biased, each of them is not.
    replicas : whether the gradients of several processes are averaged before the step.
    loss_fn : gives the loss of a batch of its own choice, another one at each call.
    batches : how many of them, >= 2; 2.
    scaler : the ``GradScaler`` that multiplies the loss, if there is one: what backward passes bring is divided by its scale.

    Values
    ------
    noise_scale : the ratio of the running means; nan where ``|G|²`` is not above 0 yet.
    noise_scale_signal, noise_scale_noise : ``|G|²`` and ``tr(Σ)``, of the loss whose gradients were seen: not divided by the
        number of micro-batches where these are summed up, and with a scale that no ``scaler`` tells of.

    Raises
    ------
    ValueError : where a step has a single small gradient, and with ``replicas`` where the step's gradients are far shorter than
        means of those that backward passes brought. It closes the probe, not the training.

    Notes
    -----
    Price, at each ``every``-th step: two passes over the gradients for each backward pass (one with ``replicas``), 1% of a step of
    a language model of 3.7 million parameters; or ``batches`` forward and backward passes with ``loss_fn``
    (``benchmarks/probes.py``).
    """

    def __init__(
        self,
        batch_size: int,
        *,
        every: int = 10,
        decay: float = 0.9,
        replicas: bool = False,
        loss_fn: Callable[[], Any] | None = None,
        batches: int = 2,
        scaler: Any = None,
        name: str = "noise_scale",
    ) -> None:
        check_value("NoiseScale", "batch_size", batch_size, Count)
        check_value("NoiseScale", "every", every, Count)
        check_value("NoiseScale", "decay", decay, Decay)
        check_value("NoiseScale", "replicas", replicas, bool)
        check_value("NoiseScale", "batches", batches, Count)
        if loss_fn is not None and batches < 2:
            raise ValueError(
                f"NoiseScale: batches must be a whole number >= 2, got {batches}. One gradient shows no noise."
            )
        if scaler is not None and not callable(getattr(scaler, "get_scale", None)):
            raise TypeError(f"NoiseScale: scaler must be a GradScaler or None, got {type(scaler).__name__}.")
        self.batch_size, self.every, self.decay, self.name = batch_size, every, decay, name
        self.replicas, self.loss_fn, self.batches, self.scaler = replicas, loss_fn, batches, scaler
        self.signal = self.noise = 0.0
        self._weight = 0.0
        self._subject: Subject | None = None
        self._hooks = Hooks()
        self._given = False
        self._scale = 1.0

    def start(self, subject: Subject) -> None:
        self._subject = subject
        on_torch = all(hasattr(p, "register_hook") for p in subject.params)
        if not on_torch and (self.loss_fn is not None or self.replicas):
            raise TypeError(
                "NoiseScale: the parameters must be torch's, got NumPy arrays, which have no backward pass. Use add(…)."
            )
        self._hooked = on_torch and self.loss_fn is None

    def before(self, step: int) -> None:
        if self._subject is None or not self._hooked:
            return
        params = [p for p in self._subject.params if p.requires_grad]
        self._squares: list[list[Any]] = [[] for _ in params]
        self._sums: list[Any] = [None for _ in params]
        self._scale = 1.0
        self._hooks.start(self._subject.optimizer, at_step=self._see_step)
        for number, p in enumerate(params):
            self._hooks.add(p.register_hook, partial(self._see, number))
            if not self.replicas:
                self._hooks.add(p.register_post_accumulate_grad_hook, partial(self._see_sum, number))

    def measure(self, step: int) -> Values:
        if self.loss_fn is not None:
            self._from_batches()
        elif self._subject is not None and self._hooked:
            failed: Exception | None = None
            try:
                self._hooks.finish()
            except Exception as error:
                failed = error
            self._from_hooks(failed)
        if not self._given:
            return {}
        self._given = False
        signal, noise = self.signal / self._weight, self.noise / self._weight
        scale = noise / signal if signal > 0 else math.nan
        return {self.name: scale, f"{self.name}_signal": signal, f"{self.name}_noise": noise}

    def add(self, small: Sequence[float], large: float) -> None:
        """Take into account the squared lengths of the gradients of small batches, and that of their mean."""
        if len(small) < 2:
            raise ValueError(
                f"{self.name}: two or more gradients must be seen at a step, got {len(small)}. Accumulate gradients, or pass "
                f"loss_fn=…, which returns the loss of another batch."
            )
        mean = float(np.mean(np.asarray(small, dtype=np.float64)))
        self._add(mean, large, len(small))

    def close(self) -> None:
        self._hooks.remove()

    # ---- what hooks see

    def _see(self, number: int, grad: Any) -> None:
        self._squares[number].append(_square(grad))

    def _see_sum(self, number: int, param: Any) -> None:
        if param.grad is not None:
            self._sums[number] = _square(param.grad)

    def _see_step(self) -> None:
        """Gradients are complete, and the scaler, which has divided them by its scale for the step, has not changed it yet."""
        if self.scaler is not None:
            self._scale = float(self.scaler.get_scale())
        if self.replicas and self._subject is not None:
            self._sums = [_square(p.grad) for p in self._subject.params if p.grad is not None]

    def _from_hooks(self, failed: Exception | None) -> None:
        count = max((len(one) for one in self._squares), default=0)
        sums = [one for one in self._sums if one is not None]
        scale = self._scale**2
        # As if each small gradient had not been divided by their number: that scales both lengths alike.
        small = _total([square for one in self._squares for square in one]) * count / scale
        large = _total(sums) / (1.0 if self.replicas else scale)
        processes = 1
        if self.replicas:
            small, failures, processes = _over_processes(small, failed is not None)
            if failures and failed is None:  # or the next exchange would wait for a probe that is closed
                raise RuntimeError(f"{self.name}: the probe of another process has failed.")
        if failed is not None:
            raise failed
        count *= processes
        if count == 0 or not sums:
            return
        if self.replicas and count >= 2 and large * count < _FAR_SHORTER * small:
            raise ValueError(
                f"{self.name}: the step's gradients have length {math.sqrt(large):.3g}, those of the backward passes "
                f"{math.sqrt(small):.3g}. A gradient scaler or a clip has shortened them in between. Pass scaler=…, and clip in "
                f"the optimizer's chain."
            )
        if count < 2:
            self.add([small], large)  # which says what is missing
        self._add(small, large, count)

    def _from_batches(self) -> None:
        import torch

        from steepest.monitor.probes.untouched import untouched

        assert self._subject is not None and self.loss_fn is not None
        params = [p for p in self._subject.params if p.requires_grad]
        squares: list[float] = []
        mean: list[Any] = []
        with untouched(self._subject.model):
            for _ in range(self.batches):
                grads = torch.autograd.grad(self.loss_fn(), params, materialize_grads=True)
                squares.append(_total([_square(g) for g in grads]))
                mean = list(grads) if not mean else [a.add_(g) for a, g in zip(mean, grads, strict=True)]
        self.add(squares, _total([_square(g) for g in mean]) / self.batches**2)

    def _add(self, small: float, large: float, count: int) -> None:
        signal, noise = signal_and_noise(small, large, self.batch_size, self.batch_size * count)
        if math.isfinite(signal) and math.isfinite(noise):
            self.signal = self.decay * self.signal + (1 - self.decay) * signal
            self.noise = self.decay * self.noise + (1 - self.decay) * noise
            self._weight = self.decay * self._weight + 1 - self.decay
            self._given = True


def _square(grad: Any) -> Any:
    """The squared length, left where it is: nobody waits for a device inside a backward pass."""
    import torch

    grad = grad.detach()
    grad = grad.coalesce().values() if grad.is_sparse else grad
    return torch.linalg.vector_norm(grad, dtype=grad.dtype if grad.dtype == torch.float64 else torch.float32) ** 2


def _total(squares: Sequence[Any]) -> float:
    import torch

    return float(torch.stack([s.double() for s in squares]).sum()) if squares else 0.0


def _over_processes(number: float, failed: bool) -> tuple[float, int, int]:
    """The mean over the processes, how many have failed, and how many there are."""
    import torch

    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return number, int(failed), 1
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    found = torch.tensor([number, float(failed)], dtype=torch.float64, device=device)
    distributed.all_reduce(found)
    size = distributed.get_world_size()
    return float(found[0]) / size, int(found[1]), size
