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
from collections.abc import Mapping

from steepest.engines.numba.names import Names
from steepest.language.expression import Expr, Rate, is_reduction
from steepest.language.operations import OPERATIONS, REDUCTIONS, functions_in
from steepest.plan.plan import Pass, Program, Segment

__all__ = ["ARGUMENTS", "WORDS", "source"]

ARGUMENTS = (
    "table", "widths", "rows", "first_row", "scalars", "scalar_row", "partials", "units", "first_unit",
)  # fmt: skip

WORDS = (
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
    names = Names(program, dtype, storage or {})
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


def _is_double(node: Expr) -> bool:
    """Whether an element operation works in float64."""
    return node.kind == "wide" or any(a.kind == "wide" for a in node.args)


def _outside(program: Program, one: Pass) -> list[int]:
    """The slower values that a pass's loop uses, in order."""
    nodes = program.graph.nodes
    used = {a.index for i in (*one.body, *one.reductions) for a in nodes[i].args}
    used |= {program.stores[name].index for name in one.stores}
    return sorted(i for i in used if nodes[i].rate < Rate.ELEMENT and nodes[i].op != "const")


def _pass_buffers(program: Program, one: Pass) -> list[str]:
    touched = {*one.loads, *one.stores}
    return [name for name in program.buffers if name in touched]


def _loop(program: Program, number: int, names: Names) -> str:
    one = program.passes[number]
    nodes = program.graph.nodes
    arrays = [names.buffer(name) for name in _pass_buffers(program, one)]
    slow = _outside(program, one)
    before: dict[str, str] = {}
    local = {
        program.stores[n].index: f"{names.buffer(n)}_i" for n in one.loads if program.stored_at.get(n, number) < number
    }
    inside = [f"{n}_i = {names.widened(name, f'{n}[i]')}" for name in one.loads for n in [names.buffer(name)]]

    def text(arg: Expr, double: bool) -> str:
        if arg.op == "const":
            if double or names.dtype == "float64":
                return (
                    _literal(arg.value) if arg.value >= 0 and math.isfinite(arg.value) else f"({_literal(arg.value)})"
                )
            return before.setdefault(f"float32({_literal(arg.value)})", f"c{arg.index}")
        if arg.rate == Rate.ELEMENT:
            return local[arg.index]
        name = names.slow(arg.index)
        if arg.kind == "bool":
            return before.setdefault(f"{name} != 0.0", f"{name}_holds")
        return name if double or names.dtype == "float64" else before.setdefault(f"float32({name})", f"{name}_32")

    products = _products(program, one)
    for i in one.body:
        node = nodes[i]
        if node.op == "load":
            local[i] = f"{names.buffer(node.value)}_i"
            continue
        if i in products:
            continue
        if node.op == "as_stored":
            local[i] = f"v{i}"
            inside.append(
                f"v{i} = {names.widened('param', names.narrowed('param', text(node.args[0], False), node.args[0]))}"
            )
            continue
        double = _is_double(node)
        local[i] = f"v{i}"
        inside.append(f"v{i} = {_bare(OPERATIONS[node.op].loop.format(*(text(a, double) for a in node.args)))}")
    for i in one.reductions:
        reduction, arg = REDUCTIONS[nodes[i].op], nodes[i].args[0]
        if arg.index in products:
            taken = reduction.product.format(f"r{i}", *(text(factor, True) for factor in arg.args))
        else:
            value = text(arg, True)
            taken = reduction.taken_in.format(f"r{i}", value if arg.kind == "wide" else f"float64({value})")
        inside.append(f"r{i} = {taken}")
    for name in one.stores:
        stored = program.stores[name]
        inside.append(f"{names.buffer(name)}[i] = {names.narrowed(name, text(stored, False), stored)}")
    start = [f"{name} = {said}" for said, name in before.items()]
    start += [f"r{i} = {_literal(REDUCTIONS[nodes[i].op].start)}" for i in one.reductions]
    lines = ["@njit(**OPTIONS)", f"def pass_{number + 1}({', '.join(['n', *arrays, *(names.slow(i) for i in slow)])}):"]
    lines += [f"    {line}" for line in start]
    lines += ["    for i in range(n):", *(f"        {line}" for line in inside)]
    if one.reductions:
        lines.append(f"    return {', '.join(f'r{i}' for i in one.reductions)}")
    return "\n".join(lines)


def _products(program: Program, one: Pass) -> set[int]:
    """Products in float64 that only reductions use which take in a product by one instruction."""
    nodes = program.graph.nodes
    fused = [i for i in one.reductions if REDUCTIONS[nodes[i].op].product]
    used = {a.index for i in one.body for a in nodes[i].args} | {program.stores[n].index for n in one.stores}
    used |= {nodes[i].args[0].index for i in {*one.reductions}.difference(fused)}
    return {
        i for i in (nodes[j].args[0].index for j in fused) if nodes[i].op == "mul" and nodes[i].kind == "wide"
    } - used


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
    used = sorted({i for one in passes for i in _slow_closure(program, one)})
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


def _slow_closure(program: Program, one: Pass) -> set[int]:
    """The slower values a pass needs, with what they are computed from."""
    nodes = program.graph.nodes
    wanted = {*_outside(program, one), *one.slow}
    for i in one.slow:
        if not is_reduction(nodes[i]):
            wanted |= {a.index for a in nodes[i].args if a.op != "const"}
    return wanted


def _tensor_value(program: Program, i: int, names: Names) -> list[str]:
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
        for i in sorted(j for j in _slow_closure(program, one) if nodes[j].rate == Rate.UNIT and j not in known):
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
    for name in _pass_buffers(program, one):
        arguments.append(names.array(name, start))
    arguments += [names.slow(i) for i in _outside(program, one)]
    results = ", ".join(f"r{i}" for i in one.reductions)
    head = f"{results} = " if results else ""
    inner = ",\n        ".join(arguments)
    return [f"{head}pass_{number + 1}(", f"    {inner},".replace("\n        ", "\n            "), ")"]


def _run(count: int) -> str:
    """Items are (first row, last row, first segment, last segment) of one tensor; a later segment waits for its rows.

    All that a run works on is handed over as one place in memory (`WORDS`), so that it costs nothing to call, and a C library
    can call it on its own threads.
    """
    arguments = ", ".join(ARGUMENTS)
    lines = ["@njit(**OPTIONS)", "def run(place):"]
    lines.append(f"    words = carray(address_int64(place), ({sum(1 + d for _, _, d in WORDS)},))")
    at = 0
    for name, kind, dims in WORDS:
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
