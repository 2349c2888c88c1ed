"""Chains from text: ``clip_by_global_norm(1.0) | adamw(lr=cosine(1e-3, steps=1000)) | ema(0.999)``.

The text is read as a Python expression and walked, never evaluated: names of recipes and schedules, numbers and texts, calls
and ``|`` are all there is. A bare name is a call with defaults; ``lookahead(adam, k=5)`` wraps; ``variables`` (``lr``,
``steps``) stand for numbers, and ``lr`` is given to a recipe that has been given none. ``my_rules.py:name`` is a recipe of
one's own, alone or as a link.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import steepest
from steepest import schedules
from steepest.checks import unknown_name
from steepest.workbench.misread import brief, foreign_letter, misread, rule_missing
from steepest.workbench.users import line_in, load_recipe, said_of

__all__ = ["Reading", "is_file", "parse", "read", "split_list"]

_NUMBERS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_SCHEDULES = {name: getattr(schedules, name) for name in schedules.__all__ if name not in ("Schedule", "from_json")}
_EXAMPLES = {
    "ReduceOnPlateau": "1e-3, patience=3", "constant": "1e-3", "cosine": "1e-3, steps=1000", "cyclic": "1e-4, 1e-3, 100",
    "exponential": "1e-3, gamma=0.99", "inverse_sqrt": "1e-3, warmup=100",
    "join": "[linear(1e-4, 1e-3, 100), cosine(1e-3, 900)], [100]", "linear": "1e-3, 0, steps=1000",
    "multi_step": "1e-3, (300, 600)", "one_cycle": "1e-3, steps=1000", "piecewise": "1e-3, (300, 600), (0.5, 0.1)",
    "polynomial": "1e-3, 0, steps=1000, power=2", "scale": "cosine(1e-3, 1000), 0.5", "step": "1e-3, 300, 0.5",
    "warm_restarts": "1e-3, 200, 2", "warmup": "100, cosine(1e-3, 900)", "wsd": "1e-3, steps=1000, warmup=100, decay=200",
}  # fmt: skip
"""The arguments of a schedule, as somebody may write them who has left them out."""
_WRAPPERS = {"lookahead", "ema"}
_RESTRICTIONS = {"only": steepest.only, "exclude": steepest.exclude}


_TOO_DEEP = "{!r} is nested too deeply for a chain. Join rules by | instead."


@dataclass(frozen=True, slots=True)
class Reading:
    """A chain, the Python expression that makes it, and the recipes it names with the arguments that it gives them."""

    chain: steepest.Chain
    python: str
    recipes: tuple[tuple[str, frozenset[str]], ...]


def parse(text: str, variables: Mapping[str, Any] | None = None) -> steepest.Chain:
    """The chain that a text describes.

    Raises ValueError or TypeError that names the place of the mistake and what is known.

    >>> print(parse("clip_by_global_norm(1.0) | lookahead(adam(1e-3), k=5)"))
    clip_by_global_norm > scale_by_adam > descend > lookahead
    """
    return read(text, variables).chain


def read(
    text: str, variables: Mapping[str, Any] | None = None, values: Mapping[str, Mapping[str, Any]] | None = None
) -> Reading:
    """The chain that a text describes, with how it is written in Python.

    ``values`` gives recipes arguments that the text leaves open, by the recipe's name. Raises as `parse`.

    >>> read("lookahead(adam, k=6)", {"lr": 0.01}, {"adam": {"eps": 1e-6}}).python
    'steepest.adam(lr=0.01, eps=1e-06) | steepest.lookahead(k=6)'
    """
    text = re.sub(
        r"\s", lambda space: " " if space.group().isascii() else space.group(), text.strip()
    )  # a chain has no lines
    if not text:
        raise ValueError("the chain is empty. Write, for example, 'clip_by_global_norm(1.0) | adamw(lr=1e-3)'.")
    if is_file(text):
        return _from_file(text, variables or {}, (values or {}).get(text, {}))
    _no_link_is_missing(text)
    if any(map(is_file, links := split_list(text, "|"))):
        return _joined([read(link, variables, values) for link in links])
    if "#" in re.sub(
        r"'[^']*'|\"[^\"]*\"", "", text
    ):  # to Python the beginning of a comment, and the rest of the chain were lost
        raise ValueError(f"{brief(text)!r} isn't a chain: {misread(text)}.")
    if "\0" in text:
        raise ValueError(f"{text!r} isn't a chain: it contains a null character.")
    try:
        return _chain(ast.parse(text, mode="eval").body, _Context(text, variables or {}, values or {}))
    except SyntaxError as error:
        if "too many nested" in error.msg:
            raise ValueError(_TOO_DEEP.format(brief(text))) from None
        at = error.offset or len(text)
        raise ValueError(f"{brief(text, at)!r} isn't a chain: {misread(text, at)}.") from None
    except (RecursionError, MemoryError):
        raise ValueError(_TOO_DEEP.format(brief(text))) from None


@dataclass(frozen=True, slots=True)
class _Context:
    text: str
    variables: Mapping[str, Any]
    values: Mapping[str, Mapping[str, Any]]


def _joined(parts: Sequence[Reading]) -> Reading:
    chain = steepest.chain(*(part.chain for part in parts))
    return Reading(chain, " | ".join(part.python for part in parts), tuple(r for part in parts for r in part.recipes))


def split_list(text: str, separator: str = ",") -> list[str]:
    """Split at commas (or bars) outside parentheses and quotes.

    >>> split_list("adam, clip_by_value(-1, 1) | sgd")
    ['adam', 'clip_by_value(-1, 1) | sgd']
    """
    return [part.strip() for part in _pieces(text, separator) if part.strip()]


def _pieces(text: str, separator: str) -> list[str]:
    """What stands between separators outside parentheses and quotes, as it stands there."""
    parts, depth, start, quote = [], 0, 0, ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _no_link_is_missing(text: str) -> None:
    """Python's parser would call it invalid syntax, at the end or nowhere."""
    pieces = _pieces(text, "|")
    empty = next((i for i, piece in enumerate(pieces) if not piece.strip()), None)
    if empty is not None:
        side, bar = ("after", sum(len(piece) + 1 for piece in pieces[:empty])) if empty else ("before", 1)
        raise ValueError(f"{brief(text, bar)!r} isn't a chain: {rule_missing(side, bar)}.")


def is_file(text: str) -> bool:
    """Whether a text names a recipe of one's own, ``my_rules.py:name``."""
    path, _, name = text.rpartition(":")
    return path.endswith(".py") and "|" not in path and name.isidentifier()


def _from_file(text: str, variables: Mapping[str, Any], values: Mapping[str, Any]) -> Reading:
    path, _, name = text.rpartition(":")
    function = load_recipe(path, name)
    takes_lr = "lr" in inspect.signature(function).parameters
    named = {**({"lr": variables["lr"]} if takes_lr and "lr" in variables else {}), **values}
    try:
        made = function(**named)
    except Exception as error:
        raise ValueError(f"{path}{line_in(error, Path(path))}: {said_of(error)}") from error
    if not isinstance(made, steepest.Chain):
        raise TypeError(
            f"{text}: the recipe must return a chain, got {made!r}. Return the result of steepest.chain(…)."
        )
    return Reading(made, f"{name}({_arguments((), named)})", ((text, frozenset()),))


def _arguments(positional: Sequence[Any], named: Mapping[str, Any]) -> str:
    """Arguments as Python writes them; schedules stand in their module."""

    def said(value: Any) -> str:
        if isinstance(value, float) and not math.isfinite(value):
            return f"float('{value}')"
        if isinstance(value, tuple):
            return f"({', '.join(map(said, value))}{',' if len(value) == 1 else ''})"
        known = isinstance(value, (schedules.Schedule, schedules.ReduceOnPlateau))
        return re.sub(r"\b([A-Za-z_]+)\(", r"steepest.schedules.\1(", repr(value)) if known else repr(value)

    return ", ".join([*map(said, positional), *(f"{name}={said(value)}" for name, value in named.items())])


def _chain(node: ast.expr, context: _Context) -> Reading:
    parts, todo = [], [node]
    while todo:
        one = todo.pop()
        if isinstance(one, ast.BinOp) and isinstance(one.op, ast.BitOr):
            todo += [one.right, one.left]
        else:
            parts.append(_link(one, context))
    return _joined(parts)


def _link(node: ast.expr, context: _Context) -> Reading:
    text, variables = context.text, context.variables
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise ValueError(f"{_place(node, text)} isn't a rule or recipe. {_cure(node, text)}")
    name = call.func.id
    if name in _RESTRICTIONS or (name in _WRAPPERS and call.args and _is_chain(call.args[0], variables)):
        if not call.args or isinstance(call.args[0], ast.Constant):
            raise ValueError(f"{name} needs a rule first: {name}(add_decayed_weights(0.01), '*.bias').")
        inner = _chain(call.args[0], context)
        rest = [_value(a, text, variables) for a in call.args[1:]]
        named = _named(call, text, variables)
        if name in _RESTRICTIONS:
            said = f"steepest.{name}({inner.python}, {_arguments(rest, named)})"
            return Reading(_RESTRICTIONS[name](inner.chain, *rest, **named), said, inner.recipes)
        return _joined([inner, _recipe(name, rest, named, context)])
    if name not in steepest.RECIPES:
        if name in _SCHEDULES:
            raise ValueError(
                f"{_place(node, text)}: {name} is a schedule. Pass it to a hyperparameter, as in 'adam(lr={name}(…))'."
            )
        known = [*steepest.RECIPES, *_RESTRICTIONS]
        raise ValueError(_unknown(node, text, "rule or recipe", name, known))
    arguments = [_value(a, text, variables) for a in call.args]
    return _recipe(name, arguments, _named(call, text, variables), context)


def _recipe(name: str, arguments: Sequence[Any], named: dict[str, Any], context: _Context) -> Reading:
    """One recipe with the arguments that the text gives, and those that are given for it beside the text."""
    made_by = steepest.RECIPES[name]
    order = list(inspect.signature(made_by).parameters)
    given = frozenset([*order[: len(arguments)], *named])
    open_ones = {key: value for key, value in context.values.get(name, {}).items() if key not in given}
    if name in steepest.OPTIMIZERS and "lr" not in given and "lr" in context.variables:
        open_ones = {"lr": context.variables["lr"], **open_ones}
    named = {**named, **open_ones}
    said = f"steepest.{name}({_arguments(arguments, named)})"
    return Reading(steepest.RECIPES[name](*arguments, **named), said, ((name, given),))


def _named(call: ast.Call, text: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    for position, keyword in enumerate(call.keywords):
        if keyword.arg is None:
            raise ValueError(f"{_place(keyword.value, text)}: ** can't be used here. Write the arguments out.")
        if keyword.arg in (other.arg for other in call.keywords[:position]):
            raise ValueError(f"{_where(keyword, text)}: {keyword.arg} is given twice. Remove one.")
    return {str(k.arg): _value(k.value, text, variables) for k in call.keywords}


def _is_chain(node: ast.expr, variables: Mapping[str, Any]) -> bool:
    """Whether it should be a chain: an unknown name is taken for a misspelt rule, not for a number."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr)
    name = node.func if isinstance(node, ast.Call) else node
    return isinstance(name, ast.Name) and name.id not in {*variables, "inf", "nan", *_SCHEDULES}


def _value(node: ast.expr, text: str, variables: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (int, float, str, bool))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand, text, variables)
        if isinstance(value, (int, float)):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(one, text, variables) for one in node.elts)
    if isinstance(node, ast.Name):
        if node.id in variables:
            return variables[node.id]
        if node.id in ("inf", "nan"):
            return getattr(math, node.id)
        if node.id in _SCHEDULES:
            raise ValueError(
                f"{_place(node, text)} is a schedule without its arguments. Write them, as in {node.id}({_EXAMPLES[node.id]})."
            )
        raise ValueError(_unknown(node, text, "value", node.id, [*variables, "inf", *_SCHEDULES]))
    if isinstance(node, ast.BinOp) and type(node.op) in _NUMBERS:
        left, right = _value(node.left, text, variables), _value(node.right, text, variables)
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise ValueError(f"{_place(node, text)}: calculations can use only numbers.")
        try:
            return _NUMBERS[type(node.op)](left, right)
        except ArithmeticError as error:
            raise ValueError(f"{_place(node, text)}: {error}.") from None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id not in _SCHEDULES:
            raise ValueError(_unknown(node, text, "schedule", node.func.id, _SCHEDULES))
        arguments = [_value(a, text, variables) for a in node.args]
        return _SCHEDULES[node.func.id](*arguments, **_named(node, text, variables))
    if isinstance(node, ast.Compare):
        raise ValueError(f"{_place(node, text)} is a comparison. Pass an argument with one =, as in adam(lr=1e-3).")
    raise ValueError(f"{_place(node, text)} can't be used here. Write a number, a string, a tuple or a schedule.")


def _cure(node: ast.expr, text: str) -> str:
    """What to write where something stands in the place of a rule."""
    said = ast.get_source_segment(text, node) or ""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "Write rules without quotes."
    if said.startswith("steepest."):
        return f"Write it without 'steepest.': {brief(said.removeprefix('steepest.'))}."
    return "Join them by |, as in 'adam(1e-3) | ema(0.99)'."


def _unknown(node: ast.expr, text: str, kind: str, name: str, known: Iterable[str]) -> str:
    return unknown_name(_where(node, text), kind, brief(name), known) + foreign_letter(name)


def _place(node: ast.expr, text: str) -> str:
    part = ast.get_source_segment(text, node) or "this"
    return f"{brief(part)!r} at {_where(node, text)}"


def _where(node: ast.expr | ast.keyword, text: str) -> str:
    character = len(text.encode()[: node.col_offset].decode())  # ast counts bytes, a person characters
    return f"character {character + 1} of {brief(text, character)!r}"
