"""Buckets: tensors that share a group, a plan, an engine and a history, so that one row of numbers serves them all.

A history is a step count and the host states. A tensor that misses a gradient gets a history of its own, and with it a bucket.
What a bucket's row holds at a step is found out here: its step counts and its hyperparameters' numbers, of which schedules are
asked and checked; and with them the program of the step, one of its plan's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steepest.checks import Range, hints_of, range_of
from steepest.engines.tensors import Engine, Tensor
from steepest.language.expression import Rate
from steepest.plan.plan import Plan, Program
from steepest.step.recipes import Live

__all__ = ["Bucket", "Kinds", "buckets_of", "drop_states", "start_states"]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What tensors of a bucket have in common as long as no chain and no tensor's memory changes.

    ``absent`` tensors have no gradient: only the rules that follow the weights run, and the tensors' own step count stands still.
    """

    plan: Plan
    engine: Engine
    symbols: list[tuple[str, Any, Range | None, str]]
    absent: bool
    program: Program | None
    """That of every step, if it depends on no condition."""
    checked: dict[str, float] = field(default_factory=dict)
    """The numbers that were compared with their ranges last: nearly all are the same at the next step."""


class Kinds:
    """The kind of each tensor, found out once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Kind] = {}

    def of(self, group: int, tensor: Tensor, own: Plan, engine: Engine, absent: bool) -> Kind:
        """The kind of a tensor of a group with this plan and engine."""
        reach = _reach(own, tensor)
        key = group, id(own.programs), _numbers(own), id(engine), tensor.dtypes, tensor.cuts, reach, absent
        if key not in self._known:
            program = None if own.conditions else own.program(())
            if program is not None and tensor.cuts:
                program = program.split_stages_up_to(reach)
            self._known[key] = Kind(own, engine, _symbols(own), absent, program)
        return self._known[key]


@dataclass(slots=True, eq=False)
class Bucket:
    """Tensors of one kind and one history, which ``host`` holds until it is written back to them."""

    kind: Kind
    tensors: list[Tensor]
    host: dict[str, float]

    def inputs(self, steps: int) -> dict[str, float]:
        """What the programs of this plan ask for, by name, at the step after so many."""
        found = {**self.host, "step": self.host["step"] + 1, "steps": steps + 1.0}
        checked = self.kind.checked
        for symbol, value, allowed, said in self.kind.symbols:
            number = value if allowed is None else value(steps)
            if allowed is not None and (type(number) is not float or number != checked.get(symbol)):
                number = checked[symbol] = _in_range(value, number, allowed, said, steps)
            found[symbol] = number
        return found

    def program(self, inputs: Mapping[str, float]) -> Program:
        """The program of a step with these inputs."""
        plan = self.kind.plan
        program = plan.program(plan.outcome(inputs))
        first = self.tensors[0]
        return program.split_stages_up_to(_reach(plan, first)) if first.cuts else program


def buckets_of(rows: Iterable[tuple[Kind, Tensor]]) -> list[Bucket]:
    """Tensors, each with its kind, sorted by kind and history."""
    found: dict[tuple[Any, ...], Bucket] = {}
    for kind, t in rows:
        key = id(kind), *t.host.items()
        bucket = found.get(key)
        if bucket is None:
            found[key] = Bucket(kind, [t], dict(t.host))
        else:
            bucket.tensors.append(t)
    return list(found.values())


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
            found.append((symbol, value, _range(link.function, name), f"{link.written}: {name}"))
        else:
            found.append((symbol, float(value), None, ""))
    return found


def _range(function: Any, name: str) -> Range:
    """The range that a rule declares for a hyperparameter."""
    return (range_of(hints_of(function).get(name)) if function else None) or Range()


def _numbers(own: Plan) -> tuple[object, ...]:
    """The hyperparameters' values in order, as a key; a schedule stands for itself alone."""
    return tuple(id(v) if callable(v) else float(v) for link in own.trace.chain for _, v in link.values)


def _in_range(value: Any, given: Any, allowed: Range, said: str, steps: int) -> float:
    """What a schedule, or a group's live number, gives as a number of the range."""
    said = getattr(value, "said", "") or said
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{said} must be {allowed.number}, got {given!r} at step {steps}.") from None
    if number not in allowed:
        if isinstance(value, Live):
            value.refuse()
        raise ValueError(f"{said} must be {allowed.rule(number)}, got {number!r} at step {steps}.")
    return number
