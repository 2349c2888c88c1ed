"""Sparse gradients: a step on the rows that they name, as if all rows had been stepped.

`sparse_rows` lets a stepper see only those rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from steepest.engines.tensors import Tensor
from steepest.language.expression import Rate, ancestors, is_reduction
from steepest.plan.plan import Plan
from steepest.step.buckets import drop_states, start_states
from steepest.step.stepper import Stepper
from steepest.torch.views import ParamView, buffer_of

__all__ = ["by_rows", "check_rows", "sparse_rows", "steps_rows_alone"]


def by_rows(grad: torch.Tensor) -> torch.Tensor:
    """A sparse gradient as the rows that it names, each once."""
    return (grad if grad.sparse_dim() == 1 else grad.to_dense().to_sparse(1)).coalesce()


@contextmanager
def sparse_rows(
    stepper: Stepper, held: Sequence[ParamView], buffers: list[Any], sparse: dict[int, torch.Tensor]
) -> Iterator[None]:
    """Let the step see only the rows of a parameter that a sparse gradient names; they are written back at the end.

    `check_rows` must have allowed it. A stepper that also steps whole tensors must forget its layout before and after.
    """
    plans = dict(zip((t.index for t in stepper.tensors), stepper.own_plans, strict=True))
    stepper.unsort()
    whole: list[tuple[ParamView, dict[str, Any], dict[str, float], Any, list[str]]] = []
    try:
        for index, grad in sparse.items():
            one = held[index]
            tensor = one.tensor
            rows = grad.indices()[0].cpu().numpy() if isinstance(tensor.param, np.ndarray) else grad.indices()[0]
            started: list[str] = []
            whole.append((one, tensor.buffers, dict(tensor.host), rows, started))
            start_states(tensor, plans[index], started)
            tensor.buffers = {name: buffer[rows] for name, buffer in tensor.buffers.items()}
            buffers[index] = buffer_of(grad.values())
        steps = stepper.steps
        yield
        happened = stepper.steps > steps
    except BaseException:
        happened = False
        raise
    finally:
        stepper.unsort()
        for one, buffers_before, host_before, rows, started in whole:
            tensor = one.tensor
            if happened:
                for name, part in tensor.buffers.items():
                    buffers_before[name][rows] = part
            tensor.buffers = buffers_before
            if not happened:
                tensor.host = host_before
                drop_states(tensor, started)


def check_rows(what: str, one: ParamView, own: Plan) -> None:
    """Raise unless a gradient of 0 moves nothing, neither weights nor states, so that the other rows are as if stepped."""
    if not steps_rows_alone(one, own):
        raise RuntimeError(
            f"{what}: parameter {one.tensor.name!r} has a sparse gradient, but {own.trace.chain.brief} does not support sparse "
            f"gradients: it moves weights or states whose gradient is 0, or sums over them. SGD and Adagrad without weight decay "
            f"do; otherwise make the gradient dense: nn.Embedding(…, sparse=False)."
        )


def steps_rows_alone(one: ParamView, own: Plan) -> bool:
    """Whether the rows that a sparse gradient names can be stepped without the others."""
    return not one.param.is_complex() and _moves_nothing_at_zero(own)


def _moves_nothing_at_zero(own: Plan) -> bool:
    """Whether a step with gradient 0 leaves weights and states alone, tried out on a few numbers."""
    for node in filter(is_reduction, own.trace.graph.nodes):
        loads = {value.value for value in ancestors([node]).values() if value.op == "load"}
        if node.rate != Rate.MODEL or loads != {"grad"}:
            return False
    rng = np.random.default_rng(0)
    probe = Tensor("probe", 0, {"param": rng.normal(size=5)})
    start_states(probe, own, [])
    for name in probe.buffers:
        probe.buffers[name][...] = rng.uniform(0.5, 1.0, size=5)
    probe.host["step"] = 1_000_002.0
    before = {name: buffer.copy() for name, buffer in probe.buffers.items()}
    stepper = Stepper([[probe]], [own.trace.chain], "arrays")
    for _ in range(2):
        stepper.step([np.zeros(5)])
    return all(np.array_equal(before[name], probe.buffers[name]) for name in before)
