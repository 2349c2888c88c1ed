"""Prints a program as Python text for Numba: a function per pass (the loop), one per segment (what surrounds it), and
``run``, which takes work until there is none left.

The text is readable on purpose (``optimizer.plan.source()`` shows it): values carry the names of states and
hyperparameters where they have one; every value is one assignment. Load all, then store all. Element values have the
type of computation, so every constant and scalar is converted once, before the loop: a float64 literal inside it would
halve the SIMD width. A buffer of 16 bits is widened where it is loaded and rounded where it is stored, so a later pass
reads what was rounded. Raw pointers are turned into arrays outside the loop's own function, since only there it vectorises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from steepest.engines.dialect import body, buffers_of, scalars_for, scalars_of
from steepest.engines.names import Names
from steepest.language.expression import Expr, Rate, is_reduction
from steepest.language.operations import OPERATIONS, REDUCTIONS, functions_in
from steepest.plan.plan import ITEMSIZES, Program, Segment

__all__ = ["ARGUMENTS", "ABI", "source"]

ARGUMENTS = (
    "table", "widths", "rows", "first_row", "scalars", "scalar_row", "partials", "units", "first_unit",
)  # fmt: skip

ABI = (
    ("items", "int64", 2), ("stage_start", "", 0), ("counter", "", 0), ("done", "", 0), ("table", "int64", 2),
    ("widths", "int64", 1), ("rows", "int64", 2), ("first_row", "int64", 1), ("scalars", "float64", 2),
    ("scalar_row", "int64", 1), ("partials", "float64", 2), ("units", "float64", 2), ("first_unit", "int64", 1),
)  # fmt: skip
"""What ``run`` finds at its place in memory, a word each: numbers, and arrays as address and lengths."""

_HEAD = '''"""{title}

Generated. {dtype}; loops over one piece of a tensor, segments around them, run over all work.
"""

from numba import carray, njit
from numpy import {functions}

from steepest.engines.numba.pointers import address_{dtype} as address, add, add_product, address_float64, address_int64
from steepest.engines.numba.pointers import report, take_next, wait_for
{conversions}
OPTIONS = {{"nogil": True, "error_model": "numpy"}}
'''


def source(program: Program, dtype: str, title: str, storage: Mapping[str, str] | None = None) -> str:
    """The whole text for one program and one type of computation (``float32`` or ``float64``).

    ``storage`` names the types of buffers that are stored in another: ``float16`` or ``bfloat16``, beside ``float32``.
    """
    names = Names(program, dtype, storage or {}, _is_own)
    parts: list[str] = []
    for number in range(len(program.passes)):
        parts.append(_loop(program, number, names))
    segments = [segment for stage in program.stages for segment in stage]
    for number, segment in enumerate(segments):
        parts.append(_segment(program, number, segment, names))
    parts.append(_run(len(segments)))
    body = "\n\n".join(parts)
    functions = ", ".join(sorted(["float32", "float64", "inf", "nan", *functions_in(body)]))
    head = _HEAD.format(title=title, dtype=dtype, functions=functions, conversions=_conversions(names))
    return f"{head}\n\n{body}"


def _conversions(names: Names) -> str:
    """The import of what a program needs for the types that it does not compute in; nothing where there are none."""
    kinds = sorted(set(names.storage.values()) - {names.dtype})
    needed = ", ".join(["address_uint16", *(f"from_{k}" for k in kinds), *(f"to_{k}" for k in kinds)])
    return f"from steepest.engines.numba.pointers import {needed}\n" if kinds else ""


def _literal(value: float) -> str:
    if value != value:
        return "nan"
    return ("inf" if value > 0 else "-inf") if math.isinf(value) else repr(value)


def _loop(program: Program, number: int, names: Names) -> str:
    one, nodes = program.passes[number], program.graph.nodes
    made = body(program, number, names, NumbaDialect())
    taken = []
    for i, texts in made.reduced.items():
        row = REDUCTIONS[nodes[i].op]
        taken.append(f"r{i} = {(row.taken_in if len(texts) == 1 else row.product).format(f'r{i}', *texts)}")
    start = [f"{name} = {text}" for name, text in made.before.items()]
    start += [f"r{i} = {_literal(REDUCTIONS[nodes[i].op].start)}" for i in one.reductions]
    arguments = ["n", *map(names.buffer, buffers_of(program, one)), *map(names.slow, scalars_of(program, one))]
    lines = ["@njit(**OPTIONS)", f"def pass_{number + 1}({', '.join(arguments)}):"]
    lines += [f"    {line}" for line in start]
    lines += ["    for i in range(n):", *(f"        {line}" for line in (*made.inside, *taken, *made.stores))]
    if one.reductions:
        lines.append(f"    return {', '.join(f'r{i}' for i in one.reductions)}")
    return "\n".join(lines)


class NumbaDialect:
    """Python as Numba compiles it. Numbers are converted before the loop: a float64 literal inside would halve the SIMD width."""

    def constant(self, value: float, double: bool) -> tuple[str, bool]:
        if not double:
            return f"float32({_literal(value)})", True
        return (_literal(value) if value >= 0 and math.isfinite(value) else f"({_literal(value)})"), False

    def operation(self, node: Expr, args: Sequence[str], double: bool) -> str:
        return _bare(OPERATIONS[node.op].loop.format(*args))

    def condition(self, scalar: str) -> str:
        return f"{scalar} != 0.0"

    def narrowed(self, scalar: str) -> str:
        return f"float32({scalar})"

    def widened(self, text: str) -> str:
        return f"float64({text})"

    def loaded(self, buffer: str) -> str:
        return f"{buffer}[i]"

    def stored(self, buffer: str, text: str) -> str:
        return f"{buffer}[i] = {text}"

    def decoded(self, text: str, storage: str) -> str:
        return f"from_{storage}({text})"

    def encoded(self, text: str, storage: str, wide: bool) -> str:
        text = f"float32({text})" if wide else text
        return text if storage == "float32" else f"to_{storage}({text})"


def _bare(text: str) -> str:
    """Without the outer parentheses, where they enclose the whole."""
    if not text.startswith("("):
        return text
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:-1] if position == len(text) - 1 else text
    return text


def _segment(program: Program, number: int, segment: Segment, names: Names) -> str:
    nodes = program.graph.nodes
    passes = [program.passes[p] for p in segment.passes]
    lines = ["@njit(**OPTIONS)", f"def segment_{number + 1}(row, {', '.join(ARGUMENTS)}):"]
    lines += ["    t = rows[row, 0]", "    lo = rows[row, 1]", "    hi = rows[row, 2]", "    width = widths[t]"]
    used = sorted({i for one in passes for i in scalars_for(program, one)})
    for i in used:
        if nodes[i].rate <= Rate.MODEL:
            lines.append(f"    {names.slow(i)} = scalars[scalar_row[t], {program.scalars.index(i)}]")
    tensor = [i for i in used if nodes[i].rate == Rate.TENSOR]
    for i in tensor:
        lines += _tensor_value(program, i, names) if is_reduction(nodes[i]) else [f"    {_scalar(nodes[i], names)}"]
    if segment.by_unit:
        lines += _by_unit(program, segment, names)
    else:
        lines.append("    n = (hi - lo) * width")
        lines += [f"    {line}" for line in _call(program, segment.passes[0], names, "lo * width")]
        for i in passes[0].reductions:
            lines.append(f"    partials[row, {names.tensor_slots[i]}] = r{i}")
    return "\n".join(lines)


def _tensor_value(program: Program, i: int, names: Names) -> list[str]:
    """The lines that join a tensor's row sums. Every thread that takes a row of a later segment runs them itself."""
    node = program.graph.nodes[i]
    part = f"partials[k, {names.tensor_slots[i]}]"
    name, reduction = names.slow(i), REDUCTIONS[node.op]
    return [
        f"    {name} = {_literal(reduction.start)}",
        "    for k in range(first_row[t], first_row[t + 1]):",
        f"        {name} = {reduction.joined.format(name, part)}",
    ]


def _scalar(node: Expr, names: Names) -> str:
    """A TENSOR or UNIT value as one float64 assignment."""

    def text(arg: Expr) -> str:
        if arg.op == "const":
            return _literal(arg.value) if arg.value >= 0 else f"({_literal(arg.value)})"
        name = names.slow(arg.index)
        return f"({name} != 0.0)" if arg.kind == "bool" else name

    value = _bare(OPERATIONS[node.op].loop.format(*(text(a) for a in node.args)))
    return f"{names.slow(node.index)} = {f'1.0 if {value} else 0.0' if node.kind == 'bool' else value}"


def _by_unit(program: Program, segment: Segment, names: Names) -> list[str]:
    nodes = program.graph.nodes
    passes = [program.passes[p] for p in segment.passes]
    summed = [i for one in passes for i in one.reductions if nodes[i].rate != Rate.UNIT]
    lines = ["    n = width"]
    lines += [f"    sum{i} = {_literal(REDUCTIONS[nodes[i].op].start)}" for i in summed]
    lines.append("    for u in range(lo, hi):")
    known: set[int] = set()
    for number, one in zip(segment.passes, passes, strict=True):
        for i in sorted(j for j in scalars_for(program, one) if nodes[j].rate == Rate.UNIT and j not in known):
            known.add(i)
            if is_reduction(nodes[i]):
                lines.append(f"        {names.slow(i)} = units[first_unit[t] + u, {names.unit_slots[i]}]")
            else:
                lines.append(f"        {_scalar(nodes[i], names)}")
        lines += [f"        {line}" for line in _call(program, number, names, "u * width")]
        for i in one.reductions:
            if nodes[i].rate == Rate.UNIT:
                lines.append(f"        {names.slow(i)} = r{i}")
                lines.append(f"        units[first_unit[t] + u, {names.unit_slots[i]}] = r{i}")
                known.add(i)
            else:
                lines.append(f"        sum{i} = {REDUCTIONS[nodes[i].op].joined.format(f'sum{i}', f'r{i}')}")
    return lines + [f"    partials[row, {names.tensor_slots[i]}] = sum{i}" for i in summed]


def _call(program: Program, number: int, names: Names, start: str) -> list[str]:
    one = program.passes[number]
    arguments = ["n"]
    for name in buffers_of(program, one):
        arguments.append(_piece(program, names, name, start))
    arguments += [names.slow(i) for i in scalars_of(program, one)]
    results = ", ".join(f"r{i}" for i in one.reductions)
    head = f"{results} = " if results else ""
    inner = ",\n        ".join(arguments)
    return [f"{head}pass_{number + 1}(", f"    {inner},".replace("\n        ", "\n            "), ")"]


def _piece(program: Program, names: Names, name: str, start: str) -> str:
    """The piece of a buffer from an element on."""
    column, storage = program.buffers.index(name), names.storage[name]
    address = "address" if storage == names.dtype else "address_uint16"
    return f"carray({address}(table[t, {column}] + {ITEMSIZES[storage]} * ({start})), (n,))"


def _run(count: int) -> str:
    """Items are (first row, last row, first segment, last segment) of one tensor; a later segment waits for its rows.

    All that a run works on is handed over as one place in memory (`ABI`), so that it costs nothing to call, and a C library
    can call it on its own threads.
    """
    arguments = ", ".join(ARGUMENTS)
    lines = ["@njit(**OPTIONS)", "def run(place):"]
    lines.append(f"    words = carray(address_int64(place), ({sum(1 + d for _, _, d in ABI)},))")
    at = 0
    for name, kind, dims in ABI:
        lengths = "".join(f"words[{at + 1 + d}], " for d in range(dims))
        value = f"carray(address_{kind}(words[{at}]), ({lengths}))" if dims else f"words[{at}]"
        lines.append(f"    {name} = {value}")
        at += 1 + dims
    lines += [
        "    while True:",
        "        item = take_next(counter)",
        "        if item >= len(items):",
        "            break",
        "        first, last = items[item, 0], items[item, 1]",
        "        t = rows[first, 0]",
        "        before = items[item, 2] - stage_start",
        "        if before > 0:",
        "            wait_for(done + 8 * t, before * (first_row[t + 1] - first_row[t]))",
        "        for segment in range(items[item, 2], items[item, 3]):",
        "            for row in range(first, last):",
    ]
    if not count:
        lines.append("                pass")  # of a parameter that every link leaves out
    for number in range(count):
        lines.append(f"                {'if' if number == 0 else 'elif'} segment == {number}:")
        lines.append(f"                    segment_{number + 1}(row, {arguments})")
    lines.append("        report(done + 8 * t, last - first)")
    return "\n".join(lines) + "\n"


_OWN_NAMES = (
    "n|i|k|t|u|row|lo|hi|width|table|widths|rows|first_row|scalars|scalar_row|partials|units|first_unit|address|add|"
    "add_product|address_float64|address_int64|report|take_next|wait_for|carray|njit|words|place|"
    "float32|float64|inf|nan|OPTIONS|run|"
    "address_uint16|(from|to)_b?float16"
)


def _is_own(name: str) -> bool:
    """Whether generated text gives the name to a value or a function of its own."""
    return bool(_OWN.fullmatch(name) or functions_in(f"{name}("))


_OWN = re.compile(rf"{_OWN_NAMES}|(s|m|t|u|v|c|r|sum|pass_|segment_)\d+|.*(_i|_32|_holds)")
