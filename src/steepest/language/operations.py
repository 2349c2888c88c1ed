"""The operations and reductions of the language: two tables, a row each, the only place that defines what they mean.

What engines could disagree on (NaN in minimum and maximum, a zero denominator, a root of a negative number) is decided
in these rows. Every engine takes its text or its function from here, and so do plans and equations. A new operation or
reduction is one new row.

Values slower than an element are float64 everywhere. Element values have the tensor's own type, except behind ``wide``,
which lifts them to float64 (a sum of squares of float32 numbers overflows float32 long before the norm does), and behind
``as_stored``, which rounds them as the parameter's memory does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["OPERATIONS", "REDUCTIONS", "Operation", "Reduction", "functions_in"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row: how an operation is written in a compiled loop, computed on the host, and computed on arrays."""

    name: str
    loop: str
    host: Callable[..., Any]
    array: Callable[..., Any]
    infix: str = ""
    precedence: int = 100
    boolean: bool = False
    latex: str = ""


@dataclass(frozen=True, slots=True)
class Reduction:
    """One row: how a reduction takes in element by element, and how partial results are joined.

    Attributes
    ----------
    name : str
        Its name in rules and plans.
    start : float
        The result of no elements.
    join : callable
        Joins two partial results on the host.
    joined : str
        The text of `join` in a compiled loop.
    ufunc : str
        The name of NumPy's function of two arrays that joins them.
    array : callable
        Reduces an array of the namespace ``xp`` over some dimensions: ``array(xp, x, axis=…, keepdims=…)``.
    collective : str
        The name of torch's ``ReduceOp`` that joins over processes.
    repeated : callable
        The result of equal values, from the value and how many there are.
    loop : str
        The text that takes in an element; empty if it is `joined`.
    product : str
        The text that takes in a product of two float64 values by one instruction; empty if there is none.
    latex : str
        The sign in equations.
    """

    name: str
    start: float
    join: Callable[[float, float], float]
    joined: str
    ufunc: str
    array: Callable[..., Any]
    collective: str
    repeated: Callable[[Any, Any], Any]
    loop: str = ""
    product: str = ""
    latex: str = ""

    @property
    def taken_in(self) -> str:
        """The text that takes in an element."""
        return self.loop or self.joined


def _add(a: float, b: float) -> float:
    return a + b


def _sub(a: float, b: float) -> float:
    return a - b


def _mul(a: float, b: float) -> float:
    return a * b


def _neg(a: float) -> float:
    return -a


def _div(a: float, b: float) -> float:
    """IEEE division: Python raises where floating point has an answer."""
    if b != 0:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _pow(a: float, b: float) -> float:
    """C's power: an odd exponent keeps the sign of the base, of -0.0 too."""
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:
        if a != 0:
            return math.nan
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf


def _power(xp: Any, a: Any, b: Any) -> Any:
    """NumPy and PyTorch take a lone exponent 0.5 for a root, which differs from C's power at -0 and -inf."""
    alike = (b == 0.5) & ((a == 0) | (a == -math.inf))
    return xp.power(xp.where(alike, xp.abs(a), a), b)


def _mod(a: float, b: float) -> float:
    """The remainder with the sign of the divisor, as Python and NumPy define it."""
    return a % b if b != 0 and math.isfinite(a) else math.nan


def _sqrt(a: float) -> float:
    return math.sqrt(a) if a >= 0 else math.nan


def _exp(a: float) -> float:
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def _log(a: float) -> float:
    return math.log(a) if a > 0 else (-math.inf if a == 0 else math.nan)


def _floor(a: float) -> float:
    return float(math.floor(a)) if math.isfinite(a) and a != 0 else a


def _cos(a: float) -> float:
    return math.cos(a) if math.isfinite(a) else math.nan


def _abs(a: float) -> float:
    return abs(a)


def _lt(a: float, b: float) -> bool:
    return a < b


def _le(a: float, b: float) -> bool:
    return a <= b


def _gt(a: float, b: float) -> bool:
    return a > b


def _ge(a: float, b: float) -> bool:
    return a >= b


def _eq(a: float, b: float) -> bool:
    return a == b


def _ne(a: float, b: float) -> bool:
    return a != b


def _and(a: bool, b: bool) -> bool:
    return bool(a) and bool(b)


def _or(a: bool, b: bool) -> bool:
    return bool(a) or bool(b)


def _not(a: bool) -> bool:
    return not a


def _isfinite(a: float) -> bool:
    return math.isfinite(a)


def _where(c: bool, a: float, b: float) -> float:
    return a if c else b


def _minimum(a: float, b: float) -> float:
    return a if a < b or a != a else b


def _maximum(a: float, b: float) -> float:
    return a if a > b or a != a else b


def _same(a: float) -> float:
    return a


_ROWS = (
    Operation("add", "({} + {})", _add, lambda xp, a, b: a + b, "{} + {}", 4),
    Operation("sub", "({} - {})", _sub, lambda xp, a, b: a - b, "{} - {}", 4),
    Operation("mul", "({} * {})", _mul, lambda xp, a, b: a * b, "{} * {}", 5, latex=r"{} \, {}"),
    Operation(
        "div", "({} / {})", _div, lambda xp, a, b: xp.true_divide(a, b), "{} / {}", 5, latex=r"\frac{{{}}}{{{}}}"
    ),
    Operation("pow", "({} ** {})", _pow, _power, "{} ** {}", 7, latex="{}^{{{}}}"),
    Operation("mod", "({} % {})", _mod, lambda xp, a, b: xp.remainder(a, b), "{} % {}", 5, latex=r"{} \bmod {}"),
    Operation("neg", "(-{})", _neg, lambda xp, a: -a, "-{}", 6),
    Operation("abs", "abs({})", _abs, lambda xp, a: xp.abs(a), latex=r"\left|{}\right|"),
    Operation("sqrt", "sqrt({})", _sqrt, lambda xp, a: xp.sqrt(a), latex=r"\sqrt{{{}}}"),
    Operation("exp", "exp({})", _exp, lambda xp, a: xp.exp(a), latex=r"e^{{{}}}"),
    Operation("log", "log({})", _log, lambda xp, a: xp.log(a), latex=r"\log {}"),
    Operation("floor", "floor({})", _floor, lambda xp, a: xp.floor(a), latex=r"\lfloor {} \rfloor"),
    Operation("cos", "cos({})", _cos, lambda xp, a: xp.cos(a), latex=r"\cos {}"),
    Operation("lt", "({} < {})", _lt, lambda xp, a, b: a < b, "{} < {}", 3, boolean=True),
    Operation("le", "({} <= {})", _le, lambda xp, a, b: a <= b, "{} <= {}", 3, boolean=True, latex=r"{} \le {}"),
    Operation("gt", "({} > {})", _gt, lambda xp, a, b: a > b, "{} > {}", 3, boolean=True),
    Operation("ge", "({} >= {})", _ge, lambda xp, a, b: a >= b, "{} >= {}", 3, boolean=True, latex=r"{} \ge {}"),
    Operation("eq", "({} == {})", _eq, lambda xp, a, b: a == b, "{} == {}", 3, boolean=True, latex="{} = {}"),
    Operation("ne", "({} != {})", _ne, lambda xp, a, b: a != b, "{} != {}", 3, boolean=True, latex=r"{} \ne {}"),
    Operation("and", "({} & {})", _and, lambda xp, a, b: xp.logical_and(a, b), "{} & {}", 2, True, r"{} \wedge {}"),
    Operation("or", "({} | {})", _or, lambda xp, a, b: xp.logical_or(a, b), "{} | {}", 1, True, r"{} \vee {}"),
    Operation("not", "(not {})", _not, lambda xp, a: xp.logical_not(a), "~{}", 6, True, r"\neg {}"),
    Operation(
        "isfinite", "isfinite({})", _isfinite, lambda xp, a: xp.isfinite(a), boolean=True, latex=r"{} \text{{ finite}}"
    ),
    Operation("where", "({1} if {0} else {2})", _where, lambda xp, c, a, b: xp.where(c, a, b)),
    Operation(
        "minimum",
        "({0} if ({0} < {1}) | ({0} != {0}) else {1})",
        _minimum,
        lambda xp, a, b: xp.where((a < b) | (a != a), a, b),
        latex=r"\min({}, {})",
    ),
    Operation(
        "maximum",
        "({0} if ({0} > {1}) | ({0} != {0}) else {1})",
        _maximum,
        lambda xp, a, b: xp.where((a > b) | (a != a), a, b),
        latex=r"\max({}, {})",
    ),
    Operation(
        "wide", "float64({})", _same, lambda xp, a: a.astype(xp.float64) if hasattr(a, "astype") else a, latex="{}"
    ),
    Operation("as_stored", "{}", _same, lambda xp, a: a, latex="{}"),  # engines know in what type a parameter is kept
)

OPERATIONS = {row.name: row for row in _ROWS}
"""Every operation on values, by name."""

_REDUCTIONS = (
    Reduction(
        "sum",
        0.0,
        _add,
        "{0} + {1}",
        "add",
        lambda xp, x, **over: xp.sum(x, **over),
        "SUM",
        lambda value, count: value * count,
        loop="add({0}, {1})",
        product="add_product({0}, {1}, {2})",
        latex=r"\sum",
    ),
    Reduction(
        "max",
        -math.inf,
        _maximum,
        "{0} if ({0} > {1}) | ({0} != {0}) else {1}",
        "maximum",
        lambda xp, x, **over: xp.amax(x, **over),
        "MAX",
        lambda value, count: value,
        latex=r"\max",
    ),
)

REDUCTIONS = {row.name: row for row in _REDUCTIONS}
"""The reductions, by name. Everything else (norm, mean, rms, count) is written over them."""


def functions_in(text: str) -> list[str]:
    """The functions of NumPy that operations call in the text of a compiled loop, in the order of the alphabet.

    >>> functions_in("v1 = sqrt(v0) + exp(v0)")
    ['exp', 'sqrt']
    """
    called = {name for row in OPERATIONS.values() for name in _CALL.findall(row.loop)} - {"abs", "float64"}
    return sorted(called & {*_CALL.findall(text)})


_CALL = re.compile(r"\b([a-z]\w*)(?=\()")
