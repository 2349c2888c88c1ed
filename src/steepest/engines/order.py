"""The order of a step: which stages run in which round, and when sums over the model are complete. A list, made once.

Jobs whose chains take a norm of the whole model wait for each other. The order depends on the programs and on which jobs share a
sum, never on numbers. So groups that would wait for each other forever are refused before a step has changed anything.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from steepest.language.expression import ancestors
from steepest.plan.plan import Program

__all__ = ["Order", "Round", "order"]


@dataclass(frozen=True, slots=True)
class Round:
    """What runs before numbers are exchanged.

    Attributes
    ----------
    stages : tuple of (job, stage)
        The stages that run, in this order.
    complete : tuple of int
        The sums that are complete afterwards.
    checks_guards : bool
        Whether the guards are checked afterwards: all that they wait for is known, and no stage that stores anything has run.
    """

    stages: tuple[tuple[int, int], ...]
    complete: tuple[int, ...]
    checks_guards: bool


@dataclass(frozen=True, slots=True)
class Order:
    """The rounds of a step, and its sums over the model.

    Attributes
    ----------
    rounds : tuple of Round
        In the order in which they run.
    sums : tuple of tuples of (job, index)
        For each sum over the model the MODEL reductions that are parts of it.
    sum_of : mapping of (job, index) to int
        The same the other way round.
    """

    rounds: tuple[Round, ...]
    sums: tuple[tuple[tuple[int, int], ...], ...]
    sum_of: Mapping[tuple[int, int], int]


@lru_cache(maxsize=256)
def order(jobs: tuple[tuple[Program, int], ...]) -> Order:
    """Return the order of these jobs, each a program and the index of its first tensor.

    Raises
    ------
    ValueError
        If jobs wait for each other's sums.
    """
    programs = [program for program, _ in jobs]
    sums = _sums(jobs)
    sum_of = {member: which for which, members in enumerate(sums) for member in members}
    guarding = {
        sum_of[number, i]
        for number, program in enumerate(programs)
        for i in ancestors(g.condition for g in program.guards)
        if (number, i) in sum_of
    }
    missing = [len(members) for members in sums]
    stages = [0] * len(jobs)
    guards_open = any(program.guards for program in programs)
    rounds: list[Round] = []
    while any(stage < len(program.stages) for stage, program in zip(stages, programs, strict=True)):
        ran: list[tuple[int, int]] = []
        blocked = False
        before = [n == 0 for n in missing]
        for number, program in enumerate(programs):
            stage = stages[number]
            earlier = (i for found in program.model_reductions[:stage] for i in found)
            if stage >= len(program.stages) or not all(before[sum_of[number, i]] for i in earlier):
                continue
            if guards_open and program.stage_stores[stage]:
                blocked = True
                continue
            ran.append((number, stage))
            stages[number] += 1
            for i in program.model_reductions[stage]:
                missing[sum_of[number, i]] -= 1
        checks = guards_open and not any(missing[which] for which in guarding)
        if not ran and not checks:
            raise ValueError(
                "all groups must have the same on_nonfinite. Otherwise the guard of one group waits for a norm of the whole model, "
                "to which another group adds its part only when it stores states."
                if blocked
                else "the chains of all groups must have their global norms in the same order. Otherwise no norm can come first."
            )
        guards_open = guards_open and not checks
        complete = tuple(which for which, n in enumerate(missing) if n == 0 and not before[which])
        rounds.append(Round(tuple(ran), complete, checks))
    return Order(tuple(rounds), sums, sum_of)


def _sums(jobs: tuple[tuple[Program, int], ...]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """MODEL reductions that the same links have asked for, as (job, index) members.

    They are sorted by the first tensor that they sum over and their place in its program: the same in every process.
    """
    groups: dict[frozenset[Hashable], list[tuple[int, int]]] = {}
    for number, (program, _) in enumerate(jobs):
        for index in (i for stage in program.model_reductions for i in stage):
            groups.setdefault(program.graph.keys[index], []).append((number, index))

    def first(members: list[tuple[int, int]]) -> tuple[int, int]:
        return min((jobs[number][1], index) for number, index in members)

    return tuple(tuple(members) for members in sorted(groups.values(), key=first))
