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
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """This process's part of a reduction, to be joined with those of the processes in each group of ``holders``."""

    op: str
    holders: tuple[Hashable, ...]
    value: NDArray[np.float64]


_Shared: TypeAlias = dict[int, set[tuple[int, int]]]
_Numbers: TypeAlias = dict[tuple[int, int], int]

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
    shared = _shared(jobs) if any(any(job.program.model_reductions) for job in jobs) else {}
    totals: dict[int, float] = {}
    missing = {which: len(members) for which, members in shared.items()}
    guards_open = any(job.program.guards for job in jobs)
    if shared and len(jobs) > 1:
        _check_order(jobs, shared)
    which_of = {member: which for which, members in shared.items() for member in members}
    while any(job.stage < len(job.program.stages) for job in jobs):
        ran: list[tuple[int, int]] = []
        partials: list[_Partial] = []
        for number, job in enumerate(jobs):
            if not _ready(job.program, number, job.stage, which_of, missing):
                continue
            if guards_open and job.program.stage_stores[job.stage]:
                continue
            ops = job.program.graph.nodes
            found = job.bound.run(job.stage, job.scalars)
            first = job.bound.tensors[0]
            partials += [(which_of[number, i], ops[i].op, first, value) for i, value in found.items()]
            ran.append((number, job.stage))
            job.stage += 1
        for which, op, value in _joined([(jobs[number], stage) for number, stage in ran], partials, share):
            totals[which] = REDUCTIONS[op].join(totals[which], value) if which in totals else value
        for number, stage in ran:
            for index in jobs[number].program.model_reductions[stage]:
                missing[which_of[number, index]] -= 1
        for which, members in shared.items():
            if missing[which] == 0:
                for number, index in members:
                    for values in jobs[number].values:
                        values[index] = totals[which]
        if shared:
            for job in jobs:
                _derive(job)
        if guards_open and not any(missing[n] for n in _guarding(jobs, shared)):
            _check_guards(jobs)
            guards_open = False


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


def _check_order(jobs: Sequence[Job], shared: _Shared) -> None:
    """Go through the stages without running them, so that groups that wait for each other are refused unchanged."""
    missing = {which: len(members) for which, members in shared.items()}
    which_of = {member: which for which, members in shared.items() for member in members}
    stages = [0] * len(jobs)
    guarding = _guarding(jobs, shared)
    guards_open = any(job.program.guards for job in jobs)
    while any(stage < len(job.program.stages) for stage, job in zip(stages, jobs, strict=True)):
        ran = blocked = False
        for number, job in enumerate(jobs):
            stage = stages[number]
            if not _ready(job.program, number, stage, which_of, missing):
                continue
            if guards_open and job.program.stage_stores[stage]:
                blocked = True
                continue
            for index in job.program.model_reductions[stage]:
                missing[which_of[number, index]] -= 1
            stages[number] += 1
            ran = True
        if guards_open and not any(missing[n] for n in guarding):
            guards_open = False
        elif not ran and blocked:
            raise ValueError(
                "a group's guard (on_nonfinite) waits for a norm of the whole model, and another group without the guard "
                "takes its part of that norm only where it stores states already. Give all groups the same on_nonfinite."
            )
        elif not ran:
            raise ValueError(
                "the groups' chains take their global norms in different orders, so that none can come first. "
                "Give all groups the same order of rules that see the whole model."
            )


def _start(job: Job) -> None:
    program = job.program
    job.values = []
    for inputs in job.inputs:
        values = program.template.copy()
        for index, name in program.inputs:
            values[index] = inputs[name]
        program.step_code.run(values)
        job.values.append(values)
    job.stage = 0
    job.scalars = np.array([[float(v[i]) for i in program.scalars] for v in job.values])
    job.scalars = job.scalars.reshape(len(job.values), len(program.scalars))


def _derive(job: Job) -> None:
    """Compute MODEL values from what is reduced so far, and hand them to the loops."""
    for row, values in enumerate(job.values):
        job.program.model_code.run(values)
        job.scalars[row] = [float(values[i]) for i in job.program.scalars]


def _shared(jobs: Sequence[Job]) -> _Shared:
    """MODEL reductions that the same links have asked for: number -> its (job, index) members.

    They are numbered by the first tensor that they sum over, and their place in its program: the same in every process.
    """
    groups: dict[frozenset[Hashable], set[tuple[int, int]]] = {}
    for number, job in enumerate(jobs):
        for index in (i for stage in job.program.model_reductions for i in stage):
            groups.setdefault(job.program.graph.keys[index], set()).add((number, index))

    def first(members: set[tuple[int, int]]) -> tuple[int, int]:
        return min((jobs[number].bound.tensors[0].index, index) for number, index in members)

    return dict(enumerate(sorted(groups.values(), key=first)))


def _ready(program: Program, number: int, stage: int, which_of: _Numbers, missing: dict[int, int]) -> bool:
    """Whether a job has a next stage, and every MODEL reduction of its earlier ones is complete over all groups."""
    if stage >= len(program.stages):
        return False
    return not any(missing[which_of[number, i]] for found in program.model_reductions[:stage] for i in found)


def _guarding(jobs: Sequence[Job], shared: _Shared) -> set[int]:
    needed = {
        (number, i)
        for number, job in enumerate(jobs)
        for i, value in ancestors(g.condition for g in job.program.guards).items()
        if is_reduction(value)
    }
    return {which for which, members in shared.items() if members & needed}


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
