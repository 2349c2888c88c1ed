"""Values and their graph: what a rule computes, written down instead of computed.

A `Graph` is a list of `Expr`, each once: equal expressions are the same entry, so common subexpressions merge for free,
the order of the list is a topological order, and every later step (specialise, plan, print, run) is one walk along it.
Every value has a `Rate`, the place of the step where it is known: once per step, model, tensor, unit or element.
The rate of an operation is the highest of its arguments'; only a reduction lowers it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from steepest.language.operations import OPERATIONS, REDUCTIONS

__all__ = ["Expr", "Graph", "Rate", "ancestors", "is_reduction"]


class Rate(IntEnum):
    """How often a value changes inside one step, from once to once per element."""

    STEP = 0
    MODEL = 1
    TENSOR = 2
    UNIT = 3
    ELEMENT = 4

    @property
    def word(self) -> str:
        return self.name.lower()


_UFUNCS = {
    "add": "add", "subtract": "sub", "multiply": "mul", "true_divide": "div", "divide": "div", "power": "pow",
    "float_power": "pow", "remainder": "mod", "less": "lt", "less_equal": "le", "greater": "gt",
    "greater_equal": "ge", "equal": "eq", "not_equal": "ne", "bitwise_and": "and", "bitwise_or": "or",
}  # fmt: skip


class Expr:
    """One value of a traced rule. Arithmetic and comparisons build further values; it has no number yet.

    Attributes
    ----------
    index : position in its graph; also its identity, since ``==`` builds an expression.
    op : a row of ``OPERATIONS``, a reduction, or a leaf (``const``, ``input``, ``load``).
    args : the values it is computed from.
    value : the number of a ``const``, the name of an ``input`` or ``load``, the unit axis of a UNIT reduction.
    rate : where in the step it is known.
    kind : ``"bool"``, ``"float"``, or ``"wide"`` for element values held in float64.
    line : the place in the rule's source that asked for it.
    """

    __slots__ = ("args", "graph", "index", "kind", "line", "op", "rate", "value")
    __hash__ = None  # type: ignore[assignment]  # == builds an expression, so a value is keyed by its index

    def __init__(
        self, graph: Graph, op: str, args: tuple[Expr, ...], value: Any, rate: Rate, kind: str, line: str
    ) -> None:
        self.graph, self.op, self.args, self.value, self.rate = graph, op, args, value, rate
        self.kind, self.line, self.index = kind, line, len(graph.nodes)

    def __repr__(self) -> str:
        what = self.op if self.value is None else f"{self.op} {self.value}"
        return f"<{what}, known once per {self.rate.word}, {self.line}>"

    def __add__(self, other: Any) -> Expr:
        return self.graph.add("add", self, other)

    def __radd__(self, other: Any) -> Expr:
        return self.graph.add("add", other, self)

    def __sub__(self, other: Any) -> Expr:
        return self.graph.add("sub", self, other)

    def __rsub__(self, other: Any) -> Expr:
        return self.graph.add("sub", other, self)

    def __mul__(self, other: Any) -> Expr:
        return self.graph.add("mul", self, other)

    def __rmul__(self, other: Any) -> Expr:
        return self.graph.add("mul", other, self)

    def __truediv__(self, other: Any) -> Expr:
        return self.graph.add("div", self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return self.graph.add("div", other, self)

    def __pow__(self, other: Any) -> Expr:
        return self.graph.add("pow", self, other)

    def __rpow__(self, other: Any) -> Expr:
        return self.graph.add("pow", other, self)

    def __mod__(self, other: Any) -> Expr:
        return self.graph.add("mod", self, other)

    def __rmod__(self, other: Any) -> Expr:
        return self.graph.add("mod", other, self)

    def __and__(self, other: Any) -> Expr:
        return self.graph.add("and", self, other)

    def __rand__(self, other: Any) -> Expr:
        return self.graph.add("and", other, self)

    def __or__(self, other: Any) -> Expr:
        return self.graph.add("or", self, other)

    def __ror__(self, other: Any) -> Expr:
        return self.graph.add("or", other, self)

    def __lt__(self, other: Any) -> Expr:
        return self.graph.add("lt", self, other)

    def __le__(self, other: Any) -> Expr:
        return self.graph.add("le", self, other)

    def __gt__(self, other: Any) -> Expr:
        return self.graph.add("gt", self, other)

    def __ge__(self, other: Any) -> Expr:
        return self.graph.add("ge", self, other)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]  # builds an expression, on purpose
        return self.graph.add("eq", self, other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]  # builds an expression, on purpose
        return self.graph.add("ne", self, other)

    def __neg__(self) -> Expr:
        return self.graph.add("neg", self)

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return self.graph.add("abs", self)

    def __invert__(self) -> Expr:
        return self.graph.add("not", self)

    def __bool__(self) -> NoReturn:
        self._refuse(
            "a traced value can't be used as a condition (if, while, and, or, not)",
            "Write where(condition, a, b) instead of if, minimum and maximum instead of min and max, & and | "
            "instead of and and or.",
        )

    def __float__(self) -> NoReturn:
        self._refuse(
            "a traced value can't become a Python number",
            "Write steepest.sqrt, steepest.exp … instead of math.sqrt, math.exp ….",
        )

    __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = __float__

    def __iter__(self, *_: Any) -> Iterator[NoReturn]:
        self._refuse(
            "a traced value can't be iterated over",
            "A rule is written for one element. To sum over elements, write sum(x, per='tensor').",
        )

    __len__ = __getitem__ = __contains__ = __iter__

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse(
            "a traced value can't become a NumPy array",
            "Use the functions of steepest (sqrt, where, norm …) instead of NumPy's.",
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Expr:
        op = _UFUNCS.get(ufunc.__name__)
        if op is None or method != "__call__":
            asked = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            name = {"absolute": "abs", "add.reduce": "sum", "maximum.reduce": "max"}.get(asked, asked)
            known = name in OPERATIONS or name in REDUCTIONS or name in ("mean", "sign")
            use = f"Write steepest.{name}" if known else "Use the functions of steepest"
            self._refuse(f"numpy.{asked} can't take a traced value", f"{use} instead.")
        return self.graph.add(op, *inputs)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        hint = f"Write steepest.{name}(x, per=…)." if name in ("sum", "max", "mean", "norm") else ""
        raise AttributeError(f"{_line_of_user()}: a traced value has no attribute {name!r}. {hint}".rstrip())

    def _refuse(self, what: str, cure: str) -> NoReturn:
        where = {Rate.STEP: "once per step, on the host"}.get(self.rate, f"once per {self.rate.word}, inside the step")
        raise TypeError(f"{_line_of_user()}: {what}. It is known {where}. {cure}")


class Graph:
    """A list of values, each once. `add` is the only way to make a value.

    >>> graph = Graph()
    >>> x = graph.load("grad")
    >>> (x + 1).index == (x + 1).index, len(graph.nodes)
    (True, 3)

    Attributes
    ----------
    nodes : the values, in order.
    keys : for each MODEL reduction the links that have asked for it. Of several graphs that step together, the reductions with
        a key in common are one.
    """

    def __init__(self, apart: bool = False) -> None:
        """With ``apart`` a MODEL reduction that two links ask for is two values."""
        self.apart = apart
        self.nodes: list[Expr] = []
        self.keys: dict[int, frozenset[Hashable]] = {}
        self.guards: list[Any] = []
        self._known: dict[tuple[Any, ...], Expr] = {}
        self._asking: Hashable = None
        self._asked = 0

    @property
    def asking(self) -> Hashable:
        """Who is being traced: a key that the same link has in every chain that contains it."""
        return self._asking

    @asking.setter
    def asking(self, key: Hashable) -> None:
        self._asking, self._asked = key, 0

    def const(self, number: float) -> Expr:
        """A number. Keyed by its bits: 0.0 is not -0.0, and nan is nan."""
        number = float(number)
        return self._once(("const", number.hex()), "const", (), number, Rate.STEP, "float")

    def input(self, name: str) -> Expr:
        """A number that the host knows at every step: a hyperparameter, the step count, a host state."""
        return self._once(("input", name), "input", (), name, Rate.STEP, "float")

    def load(self, name: str) -> Expr:
        """One element of a buffer, as it was before the step."""
        return self._once(("load", name), "load", (), name, Rate.ELEMENT, "float")

    def reduce(
        self, op: str, arg: Any, rate: Rate, axis: int | None = None, keys: frozenset[Hashable] | None = None
    ) -> Expr:
        """``sum`` or ``max`` of a value over all that share one value of ``rate``.

        ``axis`` is the dimension that numbers the units of a UNIT reduction. A MODEL reduction remembers in `keys` which
        links asked for it (`asking`), so that groups with different chains share one global norm. Given ``keys`` are its whole
        set: it is one value only with another of the same set.
        """
        arg = self.lift(arg)
        if arg.rate <= rate and arg.rate != Rate.STEP:
            raise TypeError(
                f"{_line_of_user()}: {op} per {rate.word} can't take a value that is already known once per {arg.rate.word}. "
                f"Reduce a value per element, or remove the {op}."
            )
        value = (axis or 0) if rate == Rate.UNIT else None
        if rate != Rate.MODEL:
            return self._once((op, arg.index, rate, value), op, (arg,), value, rate, "float")
        apart = self.apart or keys is not None
        if keys is None:
            keys = frozenset([(self._asking, self._asked)])
            self._asked += 1
        made = self._once((op, arg.index, rate, keys if apart else None), op, (arg,), value, rate, "float")
        self.keys[made.index] = self.keys.get(made.index, frozenset()) | keys
        return made

    def add(self, op: str, *args: Any) -> Expr:
        """An operation on values and numbers, folded where it can be without changing a single bit of the result."""
        lifted = tuple(self.lift(a) for a in args)
        if op == "pow" and lifted[1].op == "const" and lifted[1].value == 2.0:
            op, lifted = "mul", (lifted[0], lifted[0])
        if op == "where":
            if lifted[1] is lifted[2]:
                return lifted[1]
            if lifted[0].op == "const":
                return lifted[1] if lifted[0].value else lifted[2]
        row = OPERATIONS[op]
        if all(a.op == "const" for a in lifted) and op != "wide":
            return self.const(float(row.host(*(a.value for a in lifted))))
        rate = max(a.rate for a in lifted)
        kind = "float"
        if row.boolean:
            kind = "bool"
        elif rate == Rate.ELEMENT and op != "as_stored" and (op == "wide" or any(a.kind == "wide" for a in lifted)):
            kind = "wide"
        return self._once((op, *(a.index for a in lifted)), op, lifted, None, rate, kind)

    def lift(self, value: Any) -> Expr:
        if isinstance(value, Expr):
            if value.graph is not self:
                raise ValueError(
                    f"{_line_of_user()}: a rule can't use a traced value of another rule. Use only its own arguments."
                )
            return value
        try:
            if not isinstance(value, (str, bytes)):  # float() would read the number out of a text
                return self.const(value)
        except (TypeError, ValueError):
            pass
        except OverflowError:
            raise ValueError(
                f"{_line_of_user()}: a number used with a traced value must fit into float64, got a larger one."
            ) from None
        raise TypeError(
            f"{_line_of_user()}: an operand of a traced value must be a number or a value made from the rule's arguments, "
            f"got {type(value).__name__} {value!r}."
        )

    def _once(self, key: tuple[Any, ...], op: str, args: tuple[Expr, ...], value: Any, rate: Rate, kind: str) -> Expr:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Expr(self, op, args, value, rate, kind, _line_of_user())
            self.nodes.append(known)
        return known


def ancestors(roots: Iterable[Expr], stop: Callable[[Expr], bool] = lambda value: False) -> dict[int, Expr]:
    """These values and all that they are computed from, by index. The walk doesn't go on from a value for which ``stop`` holds."""
    found: dict[int, Expr] = {}
    todo = list(roots)
    while todo:
        value = todo.pop()
        if value.index not in found:
            found[value.index] = value
            todo += () if stop(value) else value.args
    return found


def is_reduction(value: Expr) -> bool:
    """Whether a value is a sum or maximum, the only kind that must wait for other elements."""
    return value.op in REDUCTIONS


_SKIPPED = tuple(str(Path(file).parent) + os.sep for file in (__file__, np.__file__))


def _line_of_user() -> str:
    """``file:line`` of the nearest frame outside the language and NumPy: the rule's own line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
