"""Extra passes through a model that training does not notice: random numbers and buffers are put back afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["untouched"]


@contextmanager
def untouched(model: Any = None) -> Iterator[None]:
    """Let a probe run forward and backward passes; gradients are its own matter (`torch.autograd.grad` leaves them alone)."""
    python, numpy = random.getstate(), np.random.get_state()
    buffers = [(b, b.detach().clone()) for b in model.buffers()] if isinstance(model, torch.nn.Module) else []
    with ExitStack() as stack:
        # Of several devices fork_rng would ask whether all are meant; a process trains on its current one.
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.enable_grad())
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            random.setstate(python)
            np.random.set_state(numpy)
