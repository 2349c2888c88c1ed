"""A plan as text, for a person who has never seen the source: what is read, computed, reduced and written in each pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from steepest.language.chain import Start
from steepest.language.expression import Expr, Rate, is_reduction
from steepest.language.operations import OPERATIONS
from steepest.plan.plan import Pass, Plan, Program

__all__ = ["equations", "explain", "expressions"]

_LETTER = {Rate.STEP: "s", Rate.MODEL: "m", Rate.TENSOR: "t", Rate.UNIT: "u", Rate.ELEMENT: "v"}
_SHOWN_VARIANTS = 8


def explain(plan: Plan) -> str:
    """The usual program in full, then what each other outcome of the STEP conditions changes."""
    usual, prices = plan.program(plan.usual), _prices(plan)
    lines = [f"chain: {plan.trace.chain}", _headline(usual), *_second_names(plan), *_program(usual, prices)]
    texts = expressions(plan.trace.graph.nodes, {})
    for positions in _variants(plan):
        outcome = _flipped(plan, positions)
        said = []
        for position in positions:
            text = texts[plan.conditions[position].index][0]
            said.append(text if outcome[position] else f"not ({text})")
        lines += ["", f"where {' and '.join(said)}: {_difference(usual, plan.program(outcome), prices)}"]
    if len(plan.conditions) > _SHOWN_VARIANTS:
        lines.append(f"and {len(plan.conditions) - _SHOWN_VARIANTS} more conditions")
    return "\n".join(lines)


def _prices(plan: Plan) -> dict[str, str]:
    """What each measurement adds to the program of a step that takes all of them: found by planning without it."""
    measures = plan.trace.measures
    taken = {m.condition.index for m in measures}
    outcome = tuple(o or c.index in taken for o, c in zip(plan.usual, plan.conditions, strict=True))
    prices = {}
    for one in measures:
        # In its place stands its condition, a number on the host: so the outcomes of the conditions stay the same.
        others = tuple(replace(m, value=m.condition) if m is one else m for m in measures)
        without = plan.make(replace(plan.trace, measures=others), outcome)
        whole = plan.program(outcome)
        more = whole.bytes_per_parameter() - without.bytes_per_parameter()
        sums = sum(len(p.reductions) for p in whole.passes) - sum(len(p.reductions) for p in without.passes)
        passes = len(whole.passes) - len(without.passes)
        said = [f"{more} bytes", *([f"{sums} sum{'s' if sums > 1 else ''}"] if sums else [])]
        said += [f"{passes} pass{'es' if passes > 1 else ''}"] if passes else []
        prices[one.name] = f"adds {', '.join(said)}"
    return prices


def _second_names(plan: Plan) -> list[str]:
    """Whose values they are that got a number behind their name, since another link has one of that name."""
    links = plan.trace.chain.links
    found = {symbol: f"{symbol}: {name} of {links[at].name}" for symbol, (at, name) in plan.trace.inputs.items()}
    said = [text for symbol, text in found.items() if symbol not in text.partition(": ")[2].split()]
    names = {full: name for at, link in enumerate(links) for full, name in _states_of(plan, at, link.state).items()}
    said += [
        f"{full}: {name} of {links[plan.trace.starts[full][1]].name}" for full, name in names.items() if full != name
    ]
    return [", ".join(said)] if said else []


def _states_of(plan: Plan, position: int, declared: tuple[tuple[str, Start], ...]) -> dict[str, str]:
    own = [name for name, (_, at) in plan.trace.starts.items() if at == position]
    return dict(zip(own, (name for name, _ in declared), strict=True))


def _flipped(plan: Plan, positions: tuple[int, ...]) -> tuple[bool, ...]:
    return tuple(o != (i in positions) for i, o in enumerate(plan.usual))


def _variants(plan: Plan) -> list[tuple[int, ...]]:
    """The conditions that change something, and the pairs of which one changes something only with the other."""
    shown = range(min(len(plan.conditions), _SHOWN_VARIANTS))
    alone = {i: _program(plan.program(_flipped(plan, (i,)))) for i in shown}
    usual = _program(plan.program(plan.usual))
    found: list[tuple[int, ...]] = [(i,) for i in shown if alone[i] != usual]
    for i in (i for i in shown if alone[i] == usual):
        for j in (j for j in shown if alone[j] != usual):
            if _program(plan.program(_flipped(plan, (i, j)))) != alone[j]:
                found.append((i, j))
    return found


def equations(plan: Plan) -> list[str]:
    """A step as equations, as the rules say it, without regard to passes: what ``steepest list`` shows."""
    traced = plan.trace
    stores = {name: e for name, e in traced.stores.items() if not (e.op == "load" and e.value == name)}
    program = Program(traced.graph, stores, {}, (), (), (), {})
    whole = Pass((), tuple(program.stores), tuple(range(len(program.graph.nodes))), (), (), Rate.ELEMENT)
    shared: dict[int, str] = {}
    return [f"{name} = {text}" for name, text in _lines(program, whole, shared)]


def _headline(program: Program) -> str:
    sweeps = len(program.passes)
    memory = sweeps - sum(one.barrier == Rate.UNIT for one in program.passes)
    said = f"{memory} pass{'es' if memory != 1 else ''}"
    if sweeps > memory:
        said += f" over memory ({sweeps} sweeps over each unit)"
    reads, writes = program.reads_and_writes
    return (
        f"{said}, {program.bytes_per_parameter()} bytes per parameter (float32: reads {4 * reads}, writes {4 * writes})"
    )


def _program(program: Program, prices: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    names: dict[int, str] = {}
    lines: list[str] = []
    host = _host_values(program)
    if host or program.host_stores:
        lines += ["", "step    on the host, float64"]
        for number, i in enumerate(host):
            lines.append(f"  s{number} = {expressions(program.graph.nodes, names)[i][0]}")
            names[i] = f"s{number}"
        texts = expressions(program.graph.nodes, names)
        lines += [f"  {name} = {texts[e.index][0]}" for name, e in program.host_stores.items()]
    counter = 0
    for number, one in enumerate(program.passes):
        counter = _name_reductions(program, one, names, counter)
        last = number + 1 == len(program.passes)
        title = f"pass {number + 1}" + ("" if last else f", per {one.barrier.word} complete before {number + 2}")
        lines += ["", f"{title:<40}{_traffic(program, number)}"]
        lines += [f"  {name} = {text}" for name, text in _lines(program, one, names)]
        lines += [f"  {names[i]} = {_reduction_text(program, i, names)}" for i in one.reductions]
    for measure in program.measures:
        text = expressions(program.graph.nodes, {**names, measure.value.index: ""})[measure.value.index][0]
        named = names.get(measure.value.index)
        said = f"measured {measure.name} = {named or text or _value_text(program, measure.value, names)}"
        lines.append(f"{said:<39} {prices[measure.name]}" if measure.name in prices else said)
    for guard in program.guards:
        text = expressions(program.graph.nodes, names)[guard.condition.index][0]
        lines.append(f"before any store: {text}, else {guard.otherwise}")
    return lines


def _host_values(program: Program) -> list[int]:
    """The STEP values that deserve a name: what the loops use, and what is used more than once."""
    nodes = program.graph.nodes
    live = [nodes[i] for i in program.live_host if nodes[i].rate == Rate.STEP and nodes[i].args]
    uses: dict[int, int] = {}
    for node in live:
        for a in node.args:
            uses[a.index] = uses.get(a.index, 0) + 1
    return [n.index for n in live if n.index in program.scalars or (uses.get(n.index, 0) > 1 and _is_long(n))]


def _value_text(program: Program, value: Expr, names: dict[int, str]) -> str:
    others = {i: n for i, n in names.items() if i != value.index}
    return expressions(program.graph.nodes, others)[value.index][0]


def _traffic(program: Program, number: int) -> str:
    one = program.passes[number]
    warm: set[str] = set()
    back = number - 1
    while back >= 0 and program.passes[back].barrier == Rate.UNIT:
        warm |= set(program.passes[back].loads) | set(program.passes[back].stores)
        back -= 1
    cold = [name for name in one.loads if name not in warm]
    said = f"reads {4 * len(cold)}" + (f" ({' '.join(cold)})" if cold else "")
    again = [name for name in one.loads if name in warm]
    said += f", from the cache {' '.join(again)}" if again else ""
    return said + (f"   writes {4 * len(one.stores)} ({' '.join(one.stores)})" if one.stores else "")


def _name_reductions(program: Program, one: Pass, names: dict[int, str], counter: int) -> int:
    for i in one.reductions:
        names[i] = f"r{counter}"
        counter += 1
    return counter


def _reduction_text(program: Program, index: int, names: dict[int, str]) -> str:
    node = program.graph.nodes[index]
    others = {i: n for i, n in names.items() if i != index}
    text = expressions(program.graph.nodes, others)[node.args[0].index][0]
    axis = f", axis {node.value}" if node.rate == Rate.UNIT and node.value else ""
    return f"{node.op}({text}) per {node.rate.word}{axis}"


def _lines(program: Program, one: Pass, names: dict[int, str]) -> list[tuple[str, str]]:
    """The values of one pass that deserve a name: what is stored, and what is used more than once."""
    nodes = program.graph.nodes
    stored = {program.stores[n].index: n for n in sorted(one.stores, key="param".__eq__)}  # param, if it is one of two
    uses: dict[int, int] = {}
    for i in (*one.body, *one.slow, *one.reductions):
        for a in nodes[i].args if i not in one.slow or not is_reduction(nodes[i]) else ():
            uses[a.index] = uses.get(a.index, 0) + 1
    order = [
        i for i in sorted({*one.body, *one.slow}) if nodes[i].args and i not in names and not is_reduction(nodes[i])
    ]
    order = [i for i in order if i in stored or (uses.get(i, 0) > 1 and nodes[i].op != "wide" and _is_long(nodes[i]))]
    lines: list[tuple[str, str]] = []
    taken = set(names.values())
    for old in _needed_after_their_store(program, one, names, order, stored):
        names[old] = _free("v", taken)
        taken.add(names[old])
        lines.append((names[old], str(nodes[old].value)))
    for i in order:
        name = stored.get(i) or _free(_LETTER[nodes[i].rate], taken)
        lines.append((name, expressions(nodes, names)[i][0]))
        names[i] = name
        taken.add(name)
    for name in one.stores:
        value = program.stores[name]
        if names.get(value.index) != name:
            lines.append((name, expressions(nodes, names)[value.index][0]))
    return lines


def _needed_after_their_store(
    program: Program, one: Pass, names: dict[int, str], order: list[int], stored: dict[int, str]
) -> list[int]:
    """The loads that a line reads below the one that gives their buffer its new value: they need a name of their own."""
    nodes = program.graph.nodes
    rest = [n for n in one.stores if stored.get(program.stores[n].index) != n or program.stores[n].index not in order]
    sequence = [(stored.get(i, ""), i) for i in order]
    sequence += [(name, program.stores[name].index) for name in rest] + [("", i) for i in one.reductions]
    given: set[str] = set()
    found: set[int] = set()
    for name, root in sequence:
        known = not is_reduction(nodes[root]) and (root in names or (name in rest and root in order))
        todo = [] if known else [a.index for a in nodes[root].args] or [root]
        seen: set[int] = set()
        while todo:
            i = todo.pop()
            if i in seen or i in names or i in order:
                continue
            seen.add(i)
            todo += [a.index for a in nodes[i].args]
            if nodes[i].op == "load" and nodes[i].value in given:
                found.add(i)
        given.add(name)
    return sorted(found)


def _is_long(node: Expr) -> bool:
    return any(a.args for a in node.args) or len(node.args) > 1


def _free(letter: str, taken: set[str]) -> str:
    number = 0
    while f"{letter}{number}" in taken:
        number += 1
    return f"{letter}{number}"


def expressions(nodes: list[Expr], names: dict[int, str]) -> list[tuple[str, int]]:
    """Every value as text with its precedence, written over the named ones; one walk along the list."""
    texts: list[tuple[str, int]] = []
    for node in nodes:
        if node.index in names:
            texts.append((names[node.index], 100))
        elif node.op == "const":
            texts.append((f"{node.value:.12g}", 100 if node.value >= 0 else 6))
        elif not node.args:
            texts.append((str(node.value), 100))
        elif is_reduction(node):
            texts.append((f"{node.op}({texts[node.args[0].index][0]}) per {node.rate.word}", 100))
        elif node.op == "wide":
            texts.append(texts[node.args[0].index])
        else:
            texts.append(_operation(node, texts, names))
    return texts


def _operation(node: Expr, texts: list[tuple[str, int]], names: dict[int, str]) -> tuple[str, int]:
    row, args = OPERATIONS[node.op], node.args
    if node.op == "mul" and args[0] is args[1]:
        text, precedence = texts[args[0].index]
        return (f"({text})" if precedence < 8 else text) + "**2", 7
    factor = args[-1]
    if node.op == "mul" and factor.op == "div" and factor.args[0].value == 1.0 and factor.index not in names:
        row, args = OPERATIONS["div"], (args[0], factor.args[1])  # the planner's own x * (1 / slow)
    parts = [texts[a.index] for a in args]
    if not row.infix:
        return f"{row.name}({', '.join(text for text, _ in parts)})", 100
    written = []
    for position, (text, precedence) in enumerate(parts):
        same = precedence == row.precedence and not row.boolean
        first = same and position == 0 and row.name != "pow"
        regrouped = same and row.name in ("add", "mul") and args[position].op != "mod"
        compared = row.name in ("and", "or") and precedence == 3
        tight = precedence > row.precedence and not compared
        written.append(text if tight or first or regrouped else f"({text})")
    return row.infix.format(*written), row.precedence


def _difference(usual: Program, other: Program, prices: Mapping[str, str]) -> str:
    """What changes, in one line if only reads and writes do, else the other program in full."""
    if [one.reductions != () for one in usual.passes] == [one.reductions != () for one in other.passes]:
        said = []
        for number, (a, b) in enumerate(zip(usual.passes, other.passes, strict=True), 1):
            for verb, before, after in (("reads", a.loads, b.loads), ("writes", a.stores, b.stores)):
                more, less = sorted(set(after) - set(before)), sorted(set(before) - set(after))
                said += [f"pass {number} also {verb} {4 * len(more)} ({' '.join(more)})"] if more else []
                said += [f"pass {number} no longer {verb} {4 * len(less)} ({' '.join(less)})"] if less else []
        changed = [line for line in _program(other, prices) if line.strip() and line not in _program(usual)]
        changed = [line for line in changed if not line.startswith("pass ")]
        summary = ", ".join(said) or "the same buffers, other arithmetic"
        return f"{other.bytes_per_parameter()} bytes; {summary}" + "".join("\n" + line for line in changed)
    return _headline(other) + "".join("\n" + line for line in _program(other, prices))
