"""A trace made ready to be read: what its rules name, and without what this chain's zeros and ones make superfluous."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from steepest.language.chain import Chain
from steepest.language.expression import Expr, Graph, is_reduction
from steepest.language.trace import Trace

__all__ = ["Simple", "is_number", "names_in", "simplified", "value_of"]


@contextmanager
def names_in(chain: Chain) -> Iterator[tuple[dict[int, str], dict[int, str]]]:
    """While the chain is traced: which value each rule's own words name, and which it returns as update or param."""
    codes = {link.function.__code__: link.changes for link in chain if link.function is not None}
    locals_: dict[int, str] = {}
    returned: dict[int, str] = {}

    def on_event(frame: Any, event: str, result: Any) -> None:
        if event == "return" and frame.f_code in codes:
            for name, value in frame.f_locals.items():
                if isinstance(value, Expr) and value.args and name not in ("update", "param", "grad"):
                    locals_.setdefault(value.index, name)
            if isinstance(result, Expr) and result.args:
                returned.setdefault(result.index, codes[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        yield locals_, returned
    finally:
        sys.setprofile(before)


@dataclass
class Simple:
    """A trace in which what zeros and ones make superfluous is left out; ``at`` says where each of its values went."""

    traced: Trace
    graph: Graph
    at: list[Expr]


def simplified(traced: Trace) -> Simple:
    """One walk along the list."""
    given = {symbol: value_of(traced, symbol) for symbol in traced.inputs}
    simplifier = _Simplifier(Graph(), {symbol: value for symbol, value in given.items() if not callable(value)})
    at: list[Expr] = []
    for node in traced.graph.nodes:
        at.append(simplifier.made(node, [at[a.index] for a in node.args]))
    return Simple(traced, simplifier.graph, at)


def value_of(traced: Trace, symbol: str) -> Any:
    """The number or schedule that stands behind a symbol of a trace."""
    position, name = traced.inputs[symbol]
    return dict(traced.chain.links[position].values)[name]


@dataclass
class _Simplifier:
    """Only what is exact on numbers, nan and infinity aside: ``x + 0``, ``1 * x``, two signs that cancel."""

    graph: Graph
    numbers: dict[str, float]

    def made(self, node: Expr, args: list[Expr]) -> Expr:
        if node.op == "const":
            return self.graph.const(node.value)
        if node.op == "input":
            return self.graph.input(node.value)
        if node.op == "load":
            return self.graph.load(node.value)
        if is_reduction(node):
            return self.graph.reduce(node.op, args[0], node.rate, node.value)
        return self.combined(node.op, args)

    def is_(self, value: Expr, number: float) -> bool:
        return is_number(value, number) or (value.op == "input" and self.numbers.get(str(value.value)) == number)

    def combined(self, op: str, args: list[Expr]) -> Expr:
        a, b, is_, again = args[0], args[-1], self.is_, self.combined
        if (op in ("add", "sub") and is_(b, 0)) or (op in ("mul", "div", "pow") and is_(b, 1)):
            return a
        if (op == "add" and is_(a, 0)) or (op == "mul" and is_(a, 1)):
            return b
        if op == "mul" and (is_(a, 0) or is_(b, 0)):
            return self.graph.const(0.0)
        if op == "pow" and (is_(a, 1) or is_(b, 0)):
            return self.graph.const(1.0)
        if op == "pow" and is_(a, 0) and b.op == "input" and b.value in ("step", "steps"):  # which count from 1
            return self.graph.const(0.0)
        if op == "sub" and is_(a, 1) and is_(b, 1):
            return self.graph.const(0.0)
        if op == "sub" and is_(a, 0):
            return again("neg", [b])
        if op == "wide" and a.op == "const":
            return a
        signed = self._signed(op, a, b)
        return self.graph.add(op, *args) if signed is None else signed

    def _signed(self, op: str, a: Expr, b: Expr) -> Expr | None:
        """Signs move to the front, where they meet others."""
        again = self.combined
        if op in ("add", "sub") and b.op == "neg":
            return again("sub" if op == "add" else "add", [a, b.args[0]])
        if op in ("mul", "div") and a.op == "neg" and b.op == "neg":
            return again(op, [a.args[0], b.args[0]])
        if op in ("mul", "div") and a.op == "neg":
            return self.graph.add("neg", again(op, [a.args[0], b]))
        if op in ("mul", "div") and b.op == "neg":
            return self.graph.add("neg", again(op, [a, b.args[0]]))
        if op == "wide" and a.op == "neg":
            return self.graph.add("neg", self.graph.add("wide", a.args[0]))
        if op == "abs" and a.op == "neg":
            return self.graph.add("abs", a.args[0])
        return a.args[0] if op == "neg" and a.op == "neg" else None


def is_number(value: Expr, number: float) -> bool:
    """Whether a value is this number, whatever the chain."""
    return value.op == "const" and value.value == number
