"""A step in which few parameters have sparse gradients: they are stepped apart, so that all others take a regular step.

Used by `Core` if no parameter waits for another one, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from steepest.language.chain import Chain
from steepest.language.expression import Rate
from steepest.step.stepper import Stepper
from steepest.torch.gradients import AddressReader, check_gradient
from steepest.torch.sparse import by_rows, sparse_rows, steps_rows_alone
from steepest.torch.views import ParamView

__all__ = ["SparseStep"]


class SparseStep:
    """A stepper for the parameters with sparse gradients, made for one set of chains.

    Parameters
    ----------
    stepper : Stepper
        Steps all parameters.
    held : sequence of ParamView
        All parameters.
    indices : sequence of int
        The parameters with sparse gradients.
    densifies : bool
        Whether a sparse gradient may be made dense.
    """

    def __init__(self, stepper: Stepper, held: Sequence[ParamView], indices: Sequence[int], densifies: bool) -> None:
        self.stepper, self.held, self.indices = stepper, held, list(indices)
        plans = stepper.own_plans
        self.by_rows = [i for i in indices if steps_rows_alone(held[i], plans[i])]
        traces = {id(one.trace): one.trace for one in plans}.values()
        together = any(node.rate == Rate.MODEL for one in traces for node in one.graph.nodes)
        together = together or any(one.guards or one.measures for one in traces)
        self.possible = not together and (densifies or len(self.by_rows) == len(self.indices))
        self.part: Stepper | None = None
        if self.possible and self.by_rows:
            chain_of = dict[int, Chain]()
            for chain, group in zip(stepper.chains, stepper.groups, strict=True):
                chain_of |= {t.index: chain for t in group}
            tensors, chains = [[held[i].tensor] for i in self.by_rows], [chain_of[i] for i in self.by_rows]
            self.part = Stepper(tensors, chains, stepper.engine, stepper.fallback, stepper.share, stepper.cpu)

    def step(self, what: str, grads: Sequence[torch.Tensor | None], regular: AddressReader) -> bool:
        """Take the step; False, with nothing done, if a gradient needs a closer look."""
        dense, rows = list(grads), dict[int, torch.Tensor]()
        for i in self.indices:
            grad, one = grads[i], self.held[i]
            assert grad is not None
            check_gradient(what, one, grad)
            if grad.dtype != one.param.dtype:
                return False
            if i in self.by_rows:
                rows[i], dense[i] = by_rows(grad.detach()), None
            else:
                dense[i] = grad.detach().to_dense()
        addresses = regular(dense)
        if addresses is None:
            return False
        if self.part is None:
            return self.stepper.step((), addresses, regular.absent)
        if not self.stepper.leaves_out(rows):
            self.stepper.write_back()
        self.part.steps = self.stepper.steps
        buffers: list[Any] = [None] * len(grads)
        with sparse_rows(self.part, self.held, buffers, rows):
            self.part.step(
                [buffers[i] for i in self.by_rows]
            )  # on copies, which are written back at the end of the block
            return self.stepper.step((), addresses, regular.absent)
