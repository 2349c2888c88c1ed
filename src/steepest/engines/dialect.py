"""The mathematics of a pass as text, in any dialect. The frame around it (loops, pointers, threads, launches) is an engine's.

`body` walks a pass once and asks a `Dialect` how its language writes constants, operations, loads and stores. An engine that
generates code brings a dialect and a frame. Neither the planner nor the step know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steepest.engines.names import Names
from steepest.language.expression import Expr, Rate, is_reduction
from steepest.language.operations import REDUCTIONS
from steepest.plan.plan import Pass, Program

__all__ = ["Body", "Dialect", "body", "buffers_of", "scalars_for", "scalars_of"]


class Dialect(Protocol):
    """How a language writes what happens to one element. ``double`` is whether an operation works in float64."""

    def constant(self, value: float, double: bool) -> tuple[str, bool]:
        """The text of a number, and whether it belongs before the loop."""

    def operation(self, node: Expr, args: Sequence[str], double: bool) -> str:
        """The text of an operation on the texts of its arguments."""

    def condition(self, scalar: str) -> str:
        """A scalar that is a condition, before the loop."""

    def narrowed(self, scalar: str) -> str:
        """A float64 scalar in the type of the elements, before the loop."""

    def widened(self, text: str) -> str:
        """An element value in float64."""

    def loaded(self, buffer: str) -> str:
        """The element of a buffer, as it lies in memory."""

    def stored(self, buffer: str, text: str) -> str:
        """The line that stores a value in a buffer."""

    def decoded(self, text: str, storage: str) -> str:
        """What lies in memory in a type of storage, in the type of the elements."""

    def encoded(self, text: str, storage: str, wide: bool) -> str:
        """A value (``wide``: in float64) as it lies in memory in a type of storage."""


@dataclass(frozen=True, slots=True)
class Body:
    """The text of a pass.

    Attributes
    ----------
    before : dict
        What is computed once before the loop, a text for each name.
    inside : list of str
        The lines that load and compute an element.
    stores : list of str
        The lines that store it.
    reduced : dict
        For each reduction the texts that it takes in: a float64 value, or the two factors of a product.
    """

    before: dict[str, str] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)
    reduced: dict[int, tuple[str, ...]] = field(default_factory=dict)


def body(program: Program, number: int, names: Names, dialect: Dialect) -> Body:
    """Return the text of a pass: load all, compute, reduce, then store all."""
    one, nodes, made = program.passes[number], program.graph.nodes, Body()
    same_type = names.dtype == "float64"
    hoisted: dict[str, str] = {}
    local = {
        program.stores[n].index: f"{names.buffer(n)}_i" for n in one.loads if program.stored_at.get(n, number) < number
    }
    for name in one.loads:
        element = dialect.loaded(names.buffer(name))
        made.inside.append(f"{names.buffer(name)}_i = {_decoded(dialect, names, name, element)}")

    def before(text: str, name: str) -> str:
        if text not in hoisted:
            hoisted[text] = name
            made.before[name] = text
        return hoisted[text]

    def text(arg: Expr, double: bool) -> str:
        double = double or same_type
        if arg.op == "const":
            said, is_hoisted = dialect.constant(arg.value, double)
            return before(said, f"c{arg.index}") if is_hoisted else said
        if arg.rate == Rate.ELEMENT:
            return local[arg.index]
        scalar = names.slow(arg.index)
        if arg.kind == "bool":
            return before(dialect.condition(scalar), f"{scalar}_holds")
        return scalar if double else before(dialect.narrowed(scalar), f"{scalar}_32")

    products = _products(program, one)
    for i in one.body:
        node = nodes[i]
        if node.op == "load":
            local[i] = f"{names.buffer(node.value)}_i"
        elif i not in products:
            if node.op == "as_stored":
                held = _encoded(dialect, names, "param", text(node.args[0], False), node.args[0])
                said = _decoded(dialect, names, "param", held)
            else:
                double = node.kind == "wide" or any(a.kind == "wide" for a in node.args)
                said = dialect.operation(node, [text(a, double) for a in node.args], double)
            local[i] = f"v{i}"
            made.inside.append(f"v{i} = {said}")
    for i in one.reductions:
        arg = nodes[i].args[0]
        if arg.index in products:
            made.reduced[i] = tuple(text(factor, True) for factor in arg.args)
        else:
            said = text(arg, True)
            made.reduced[i] = (said if arg.kind == "wide" else dialect.widened(said),)
    for name in one.stores:
        value = program.stores[name]
        held = _encoded(dialect, names, name, text(value, False), value)
        made.stores.append(dialect.stored(names.buffer(name), held))
    return made


def _decoded(dialect: Dialect, names: Names, name: str, text: str) -> str:
    storage = names.storage[name]
    return text if storage == names.dtype else dialect.decoded(text, storage)


def _encoded(dialect: Dialect, names: Names, name: str, text: str, value: Expr) -> str:
    storage, wide = names.storage[name], value.kind == "wide" and names.dtype != "float64"
    return text if storage == names.dtype and not wide else dialect.encoded(text, storage, wide)


def _products(program: Program, one: Pass) -> set[int]:
    """Products in float64 that only reductions use which take in a product by one instruction."""
    nodes = program.graph.nodes
    fused = [i for i in one.reductions if REDUCTIONS[nodes[i].op].product]
    used = {a.index for i in one.body for a in nodes[i].args} | {program.stores[n].index for n in one.stores}
    used |= {nodes[i].args[0].index for i in {*one.reductions}.difference(fused)}
    return {
        i for i in (nodes[j].args[0].index for j in fused) if nodes[i].op == "mul" and nodes[i].kind == "wide"
    } - used


def scalars_of(program: Program, one: Pass) -> list[int]:
    """The slower values that a pass's loop uses, in order."""
    nodes = program.graph.nodes
    used = {a.index for i in (*one.body, *one.reductions) for a in nodes[i].args}
    used |= {program.stores[name].index for name in one.stores}
    return sorted(i for i in used if nodes[i].rate < Rate.ELEMENT and nodes[i].op != "const")


def buffers_of(program: Program, one: Pass) -> list[str]:
    """The buffers that a pass touches, in the program's order."""
    touched = {*one.loads, *one.stores}
    return [name for name in program.buffers if name in touched]


def scalars_for(program: Program, one: Pass) -> set[int]:
    """The slower values a pass needs, with what they are computed from."""
    nodes = program.graph.nodes
    wanted = {*scalars_of(program, one), *one.slow}
    for i in one.slow:
        if not is_reduction(nodes[i]):
            wanted |= {a.index for a in nodes[i].args if a.op != "const"}
    return wanted
