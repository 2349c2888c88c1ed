"""What several operations are together (a norm, a sign, a corrected average), and how texts are put into each other."""

from __future__ import annotations

from steepest.language.expression import Expr, Rate
from steepest.show.simplified import is_number

__all__ = [
    "ATOM",
    "NEGATIVE",
    "POWER",
    "PRODUCT",
    "SUM",
    "bias_corrected",
    "form_of",
    "is_tall",
    "number",
    "parenthesized",
    "wrapped",
]

ATOM, POWER, NEGATIVE, PRODUCT, SUM = 100, 7, 6, 5, 4
"""How tightly texts bind."""


def form_of(node: Expr) -> tuple[str, Expr, str] | None:
    """A norm, a sign … as (word, of what, index), where the operations together are one."""
    args = node.args
    if node.op == "where" and is_number(args[1], 1) and args[2].op == "where" and is_number(args[2].args[1], -1):
        inner = args[2].args[2]
        if args[0].op == "gt" and args[0].args[0] is inner:
            return ("sign", inner, "")
    if node.op == "sqrt" and args[0].op == "sum" and (squared := _squared(args[0].args[0])) is not None:
        return ("norm", squared, _index("", args[0].rate))
    if node.op == "sum" and (inside := _bare(args[0])).op == "abs":
        return ("norm", inside.args[0], _index("1", node.rate))
    if node.op == "maximum" and is_number(args[1], 0) and args[0].op == "max" and args[0].args[0].op == "abs":
        return ("norm", args[0].args[0].args[0], _index(r"\infty", args[0].rate))
    if node.op == "pow" and args[0].op == "sum" and args[0].args[0].op == "pow":
        base, power = args[0].args[0].args
        if _bare(base).op == "abs" and power.op == "const" and is_number(args[1], 1 / power.value):
            return ("norm", _bare(base).args[0], _index(number(power.value)[0], args[0].rate))
    if node.op == "sqrt" and args[0].op == "div" and args[0].args[0].op == "sum" and _counted(args[0].args[1]):
        squared = _squared(args[0].args[0].args[0])
        return ("RMS", squared, _index("", args[0].rate)) if squared is not None else None
    if node.op == "sum" and is_number(args[0], 1):
        return ("count", args[0], _index("", node.rate))
    return None


def bias_corrected(node: Expr) -> Expr | None:
    """The average that is divided by ``1 - decay**step`` here."""
    if node.op != "div" or node.args[1].op != "sub":
        return None
    one, power = node.args[1].args
    if is_number(one, 1) and power.op == "pow" and power.args[1].op == "input" and power.args[1].value == "step":
        return node.args[0]
    return None


def _bare(value: Expr) -> Expr:
    return value.args[0] if value.op == "wide" else value


def _squared(value: Expr) -> Expr | None:
    """x, where the value is x * x."""
    value = _bare(value)
    return _bare(value.args[0]) if value.op == "mul" and value.args[0] is value.args[1] else None


def _counted(value: Expr) -> bool:
    return value.op == "sum" and is_number(value.args[0], 1)


def _index(order: str, rate: Rate) -> str:
    """Below a norm: its order unless it is 2, and what it is the norm of unless that is one tensor."""
    said = ", ".join(filter(None, [order, "" if rate == Rate.TENSOR else rf"\text{{{rate.word}}}"]))
    return f"_{{{said}}}" if said else ""


def wrapped(part: tuple[str, int], below: int) -> str:
    """A text in parentheses unless it binds more tightly than that."""
    text, precedence = part
    return text if precedence > below else parenthesized(text)


def is_tall(text: str) -> bool:
    """Whether a text is more than a line high."""
    return any(word in text for word in (r"\frac", r"\begin", r"\sum"))


def parenthesized(text: str) -> str:
    """In parentheses as tall as what is in them."""
    return rf"\left( {text} \right)" if is_tall(text) else f"({text})"


def number(value: float) -> tuple[str, int]:
    """A number with its precedence, powers of ten as one writes them."""
    if value == float("inf"):
        return r"\infty", ATOM
    digits, _, exponent = f"{value:.12g}".partition("e")
    if not exponent:
        return digits, ATOM if value >= 0 else NEGATIVE - 2
    power = f"10^{{{int(exponent)}}}"
    return (power if digits == "1" else rf"{digits} \cdot {power}"), POWER
