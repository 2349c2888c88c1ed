"""Extra passes through a model that training does not notice: random numbers and buffers are put back afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

__all__ = ["untouched"]


@contextmanager
def untouched(model: Any = None) -> Iterator[None]:
    """Let a probe run forward and backward passes; gradients are its own matter (`torch.autograd.grad` leaves them alone).

    Without a model the buffers of all modules that are called inside are put back.
    """
    python, numpy = random.getstate(), np.random.get_state()
    kept = _Buffers()
    with ExitStack() as stack:
        # Of several devices fork_rng would ask whether all are meant; a process trains on its current one.
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.enable_grad())
        stack.callback(kept.put_back)
        if isinstance(model, torch.nn.Module):
            kept.keep(model)
        else:
            stack.callback(register_module_forward_pre_hook(lambda module, _: kept.keep(module)).remove)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class _Buffers:
    """Buffers as they were: the same tensors, also where a module has given another one their name."""

    def __init__(self) -> None:
        self._modules: set[torch.nn.Module] = set()
        self._kept: list[tuple[torch.nn.Module, str, torch.Tensor, torch.Tensor]] = []

    def keep(self, model: torch.nn.Module) -> None:
        for module in model.modules() if model not in self._modules else ():
            if module not in self._modules:
                self._modules.add(module)
                held = [(name, b) for name, b in module._buffers.items() if b is not None]
                self._kept += [(module, name, b, b.detach().clone()) for name, b in held]

    def put_back(self) -> None:
        with torch.no_grad():
            for module, name, buffer, before in self._kept:
                buffer.copy_(before)
                module._buffers[name] = buffer
