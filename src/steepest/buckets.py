"""Buckets: tensors that share a group, a plan, an engine and a history, so that one row of numbers serves them all.

A history is a step count and the host states. A tensor that misses a gradient gets a history of its own, and with it a bucket.
What a bucket's row holds at a step is found out here: its step counts and its hyperparameters' numbers, of which schedules are
asked and checked; and with them the program of the step, one of its plan's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from steepest.checks import Range, range_of
from steepest.engines.tensors import Engine, Tensor
from steepest.language.expression import Rate
from steepest.plan.plan import Plan, Program

__all__ = ["Bucket", "buckets_of", "drop_states", "renumber", "start_states"]


@dataclass(slots=True, eq=False)
class Bucket:
    """Tensors that share a group, a plan, an engine and a history, which ``host`` holds until it is written back to them.

    ``absent`` tensors have no gradient: only the rules that follow the weights run, and the tensors' own step count stands still.
    """

    plan: Plan
    engine: Engine
    tensors: list[Tensor]
    host: dict[str, float]
    symbols: list[tuple[str, Any, Range | None, str]]
    absent: bool = False

    def inputs(self, steps: int) -> dict[str, float]:
        """What the programs of this plan ask for, by name, at the step after so many."""
        found = {**self.host, "step": self.host["step"] + 1, "steps": steps + 1.0}
        for symbol, value, allowed, said in self.symbols:
            found[symbol] = value if allowed is None else _scheduled(value(steps), allowed, said, steps)
        return found

    def program(self, inputs: Mapping[str, float]) -> Program:
        """The program of a step with these inputs."""
        program = self.plan.program(self.plan.outcome(inputs))
        first = self.tensors[0]
        return program.spread(_reach(self.plan, first)) if first.cuts else program


def buckets_of(rows: Iterable[tuple[int, Tensor, Plan, Engine, bool]]) -> list[Bucket]:
    """Tensors, each with its group's number, its plan, its engine and whether it is absent, sorted."""
    found: dict[tuple[Any, ...], Bucket] = {}
    for group, t, own, engine, absent in rows:
        history = tuple(sorted(t.host.items()))
        kind = t.dtypes, t.cuts, _reach(own, t)
        key = (group, id(own.programs), _numbers(own), id(engine), kind, history)
        if key not in found:
            found[key] = Bucket(own, engine, [], dict(t.host), _symbols(own), absent)
        found[key].tensors.append(t)
    return list(found.values())


def renumber(buckets: Sequence[Bucket], own: Mapping[int, Plan]) -> bool:
    """Give buckets the numbers of other plans (by the tensors' indices) where they lie; False where they don't fit any more."""
    for bucket in buckets:
        if bucket.absent:  # its plan is made from the others'
            return False
        first, *rest = {id(p): p for p in (own[t.index] for t in bucket.tensors)}.values()
        alike = all(p.programs is first.programs and _numbers(p) == _numbers(first) for p in rest)
        if not alike or first.programs is not bucket.plan.programs:
            return False
    for bucket in buckets:
        bucket.plan = own[bucket.tensors[0].index]
        bucket.symbols = _symbols(bucket.plan)
    return bool(buckets)


def start_states(tensor: Tensor, own: Plan, started: list[str]) -> None:
    """Give a tensor the states of its plan that it does not have yet, and add their names to ``started``.

    A name is added before its memory is asked for: after an error, everything in ``started`` can be dropped.
    """
    if "step" not in tensor.host:
        started.append("step")
        tensor.host["step"] = 0.0
    for name, (start, position) in own.trace.starts.items():
        if name in (tensor.host if start.on_host else tensor.buffers):
            continue
        started.append(name)
        if start.on_host:
            tensor.host[name] = float(start.value)
            continue
        value = start.value
        if isinstance(value, str):
            given = dict(own.trace.chain.links[position].values)[value]
            value = float(given(0)) if callable(given) else float(given)
        tensor.buffers[name] = tensor.allocate(tensor, name, start.copy, value)


def drop_states(tensor: Tensor, names: Iterable[str]) -> None:
    """Take back states that `start_states` has started."""
    for name in names:
        tensor.buffers.pop(name, None)
        tensor.host.pop(name, None)


def _reach(own: Plan, tensor: Tensor) -> Rate:
    """How slow a barrier may be that this process can't pass alone."""
    if not tensor.holders():
        return Rate.MODEL
    axes = own.program(own.usual).axes
    return Rate.UNIT if any(tensor.holders(axis) for axis in axes) else Rate.TENSOR


def _symbols(own: Plan) -> list[tuple[str, Any, Range | None, str]]:
    """Every hyperparameter's symbol with its number, or its schedule and the range that its values must keep."""
    found: list[tuple[str, Any, Range | None, str]] = []
    for symbol, (position, name) in own.trace.inputs.items():
        link = own.trace.chain.links[position]
        value = dict(link.values)[name]
        if callable(value):
            hints = get_type_hints(link.function, include_extras=True) if link.function else {}
            allowed = range_of(hints.get(name)) or Range()
            said = getattr(value, "said", f"{link.name}: the schedule of {name}")
            found.append((symbol, value, allowed, said))
        else:
            found.append((symbol, float(value), None, ""))
    return found


def _numbers(own: Plan) -> tuple[object, ...]:
    """The hyperparameters' values in order, as a key; a schedule stands for itself alone."""
    return tuple(id(v) if callable(v) else float(v) for link in own.trace.chain for _, v in link.values)


def _scheduled(given: Any, allowed: Range, said: str, steps: int) -> float:
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{said} gives {given!r} at step {steps}, allowed is {allowed}.") from None
    if number not in allowed:
        raise ValueError(f"{said} gives {number!r} at step {steps}, allowed is {allowed}.")
    return number
