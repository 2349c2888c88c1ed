"""The executor: leads (program, engine, tensors) groups from stage to stage together.

Between stages it joins the partial sums of all groups that share a MODEL reduction and computes the values that follow from
them, on the host, in float64. So a global norm may span groups with different chains and mixed engines. No stage that stores
anything runs before every guard of every group is known: an error or a skipped step leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steepest.engines.order import order
from steepest.engines.tensors import Bound, Tensor
from steepest.language.expression import Rate, ancestors, is_reduction
from steepest.language.operations import OPERATIONS, REDUCTIONS
from steepest.plan.plan import Program

__all__ = ["Job", "Part", "Share", "Skipped", "execute", "tensor_values"]


class Skipped(Exception):  # noqa: N818  # an outcome, not an error
    """A guard asked for the step to be left out; nothing has been changed."""


@dataclass(slots=True)
class Job:
    """One program on one engine's tensors, with a row of host values for each group of equal numbers.

    ``inputs[row]`` gives every input by name; after `execute`, ``values[row]`` holds every STEP and MODEL value by index.
    """

    program: Program
    bound: Bound
    inputs: Sequence[dict[str, float]]
    row_of: Sequence[int]
    values: list[list[float]] = field(default_factory=list)
    scalars: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True, slots=True)
class Part:
    """This process's part of a reduction, to be joined with those of the processes in each group of ``holders``."""

    op: str
    holders: tuple[Hashable, ...]
    value: NDArray[np.float64]


Share: TypeAlias = Callable[[Sequence[Part]], Sequence[NDArray[np.float64]]]
"""Joins parts over processes: the totals, part by part."""


def execute(jobs: Sequence[Job], share: Share | None = None) -> None:
    """Run all stages of all jobs; raise Skipped or FloatingPointError before the first store if a guard fails.

    ``share`` joins the sums of tensors that other processes have parts of: it is called once after every round of stages
    that sums something up, with all of them.
    """
    for job in jobs:
        _start(job)
    if share is None and not any(job.program.waits for job in jobs):
        for job in jobs:
            for stage in range(len(job.program.stages)):
                job.bound.run(stage, job.scalars)
        return
    plan = order(tuple((job.program, job.bound.tensors[0].index) for job in jobs))
    totals: dict[int, float] = {}
    for now in plan.rounds:
        partials: list[_Partial] = []
        for number, stage in now.stages:
            job = jobs[number]
            ops, first = job.program.graph.nodes, job.bound.tensors[0]
            found = job.bound.run(stage, job.scalars)
            partials += [(plan.sum_of[number, i], ops[i].op, first, value) for i, value in found.items()]
        for which, op, value in _joined([(jobs[number], stage) for number, stage in now.stages], partials, share):
            totals[which] = REDUCTIONS[op].join(totals[which], value) if which in totals else value
        for which in now.complete:
            for number, index in plan.sums[which]:
                for values in jobs[number].values:
                    values[index] = totals[which]
        if now.complete:
            for job in jobs:
                _derive(job)
        if now.checks_guards:
            _check_guards(jobs)


_Partial: TypeAlias = tuple[int, str, Tensor, float]
"""A part of a MODEL reduction: its number over all groups, its operation, the first tensor of the job, and the number."""


def _joined(
    ran: Sequence[tuple[Job, int]], partials: Sequence[_Partial], share: Share | None
) -> list[tuple[int, str, float]]:
    """Join what the stages have summed up with other processes, all in one exchange; TENSOR and UNIT sums in place."""
    if share is None:
        return [(which, op, value) for which, op, _, value in partials]
    model: dict[tuple[int, str, tuple[Hashable, ...]], tuple[int, float]] = {}
    for which, op, first, partial in partials:
        key = (which, op, first.holders())
        place, known = model.get(key, (first.index, REDUCTIONS[op].start))
        model[key] = min(place, first.index), REDUCTIONS[op].join(known, partial)
    parts: dict[tuple[Any, ...], Part] = {}
    for (which, op, holders), (place, known) in model.items():
        if holders:
            parts[0, which, place] = Part(op, holders, np.array([known]))
    local: list[tuple[Job, int, list[NDArray[np.float64]]]] = []
    for job, stage in ran:
        for index in job.program.reductions[stage] if job.bound.tensors[0].cuts else ():
            node = job.program.graph.nodes[index]
            if node.rate == Rate.MODEL:
                continue
            values = job.bound.parts(index)
            local.append((job, index, values))
            for tensor, value in zip(job.bound.tensors, values, strict=True):
                holders = tensor.holders(node.value if node.rate == Rate.UNIT else None)
                if holders:
                    parts[1, tensor.index, index] = Part(node.op, holders, value)
    places = sorted(parts)  # the same in every process, whatever its engines
    totals = dict(zip(places, share([parts[place] for place in places]) if places else (), strict=True))
    for job, index, values in local:
        own = zip(job.bound.tensors, values, strict=True)
        job.bound.join(index, [totals.get((1, t.index, index), value) for t, value in own])
    return [
        (which, op, float(totals[0, which, place][0]) if holders else known)
        for (which, op, holders), (place, known) in model.items()
    ]


def _start(job: Job) -> None:
    program = job.program
    job.values = []
    for inputs in job.inputs:
        values = program.template.copy()
        for index, name in program.inputs:
            values[index] = inputs[name]
        program.step_code.run(values)
        job.values.append(values)
    job.scalars = np.array([[float(v[i]) for i in program.scalars] for v in job.values])
    job.scalars = job.scalars.reshape(len(job.values), len(program.scalars))


def _derive(job: Job) -> None:
    """Compute MODEL values from what is reduced so far, and hand them to the loops."""
    for row, values in enumerate(job.values):
        job.program.model_code.run(values)
        job.scalars[row] = [float(values[i]) for i in job.program.scalars]


def _check_guards(jobs: Sequence[Job]) -> None:
    failed = [
        guard
        for job in jobs
        for guard in job.program.guards
        for values in job.values
        if not values[guard.condition.index]
    ]
    for guard in failed:
        if guard.otherwise == "error":
            raise FloatingPointError(f"{guard.message}. Nothing was changed.")
    if failed:
        raise Skipped(failed[0].message)


def tensor_values(job: Job, indices: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """STEP, MODEL or TENSOR values for every tensor of a job, after `execute`; its engine is asked once."""
    nodes = job.program.graph.nodes
    wanted = ancestors((nodes[i] for i in indices), is_reduction).keys()
    slow = {i for i in wanted if nodes[i].rate <= Rate.MODEL}
    known: dict[int, Any] = dict(job.bound.tensor_reductions([i for i in wanted - slow if is_reduction(nodes[i])]))
    with np.errstate(all="ignore"):
        for i in sorted(wanted - known.keys()):
            node = nodes[i]
            if i in slow:
                known[i] = np.array([job.values[row][i] for row in job.row_of], dtype=np.float64)
                known[i] = known[i] != 0 if node.kind == "bool" else known[i]
            else:
                known[i] = OPERATIONS[node.op].array(np, *(known[a.index] for a in node.args))
    return {i: np.asarray(known[i], dtype=np.float64) for i in indices}
