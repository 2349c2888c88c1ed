"""A plan as text, for a person who has never seen the source: what is read, computed, reduced and written in each pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from steepest.language.chain import Start
from steepest.language.expression import Expr, Rate, ancestors, is_reduction
from steepest.plan.plan import ITEMSIZES, Pass, Plan, Program, size_of
from steepest.show.writing import LETTERS, Writer

__all__ = ["equations", "explain"]

_SHOWN_VARIANTS = 8


def explain(plan: Plan) -> str:
    """The usual program in full, then what each other outcome of the STEP conditions changes."""
    usual, kind, prices = plan.program(plan.usual), plan.dtype, _prices(plan)
    lines = [f"chain: {plan.trace.chain}", _headline(usual, kind), *_second_names(plan), *_program(usual, kind, prices)]
    writer = Writer(plan.trace.graph.nodes)
    for positions in _variants(plan):
        outcome = _flipped(plan, positions)
        said = []
        for position in positions:
            text = writer.text(plan.conditions[position].index)
            said.append(text if outcome[position] else f"not ({text})")
        lines += ["", *_drained(writer)]
        lines.append(f"where {' and '.join(said)}: {_difference(usual, plan.program(outcome), kind, prices)}")
    if len(plan.conditions) > _SHOWN_VARIANTS:
        lines.append(f"and {len(plan.conditions) - _SHOWN_VARIANTS} more conditions")
    return "\n".join(lines)


def _prices(plan: Plan) -> dict[str, str]:
    """What each measurement adds to the program of a step that takes all of them: found by planning without it."""
    measures, itemsize = plan.trace.measures, ITEMSIZES[plan.dtype]
    taken = {m.condition.index for m in measures}
    outcome = tuple(o or c.index in taken for o, c in zip(plan.usual, plan.conditions, strict=True))
    prices = {}
    for one in measures:
        # In its place stands its condition, a number on the host: so the outcomes of the conditions stay the same.
        others = tuple(replace(m, value=m.condition) if m is one else m for m in measures)
        without = plan.make(replace(plan.trace, measures=others), outcome)
        whole = plan.program(outcome)
        more = whole.bytes_per_parameter(itemsize) - without.bytes_per_parameter(itemsize)
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
    return [f"{name} = {text}" for name, text in _lines(program, whole, Writer(program.graph.nodes))]


def _headline(program: Program, kind: str) -> str:
    sweeps = len(program.passes)
    memory = sweeps - sum(one.barrier == Rate.UNIT for one in program.passes)
    said = f"{memory} pass{'es' if memory != 1 else ''}"
    if sweeps > memory:
        said += f" over memory ({sweeps} sweeps over each unit)"
    reads, writes = (_bytes(names, kind) for names in program.moved)
    return f"{said}, {reads + writes} bytes per parameter ({kind}: reads {reads}, writes {writes})"


def _bytes(buffers: Iterable[str], kind: str) -> int:
    return sum(size_of(name, ITEMSIZES[kind]) for name in buffers)


def _drained(writer: Writer) -> list[str]:
    """The lines that must stand before the next one."""
    lines = [f"  {name} = {text}" for name, text in writer.lines]
    writer.lines = []
    return lines


def _program(program: Program, kind: str = "float32", prices: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    writer = Writer(program.graph.nodes)
    lines: list[str] = []
    host = _host_values(program)
    if host or program.host_stores:
        lines += ["", "step    on the host, float64"]
        for i in host:
            text = writer.text(i)
            lines += [*_drained(writer), f"  {writer.give_new(i, 's')} = {text}"]
        for name, e in program.host_stores.items():
            text = writer.text(e.index)
            lines += [*_drained(writer), f"  {name} = {text}"]
    for number, one in enumerate(program.passes):
        for i in one.reductions:
            writer.give_new(i, "r")
        last = number + 1 == len(program.passes)
        title = f"pass {number + 1}" + ("" if last else f", per {one.barrier.word} complete before {number + 2}")
        lines += ["", f"{title:<40}{_traffic(program, number, kind)}"]
        lines += [f"  {name} = {text}" for name, text in _lines(program, one, writer)]
        for i in one.reductions:
            text = _reduction_text(program, i, writer)
            lines += [*_drained(writer), f"  {writer.names[i]} = {text}"]
    for measure in program.measures:
        said = f"measured {measure.name} = {writer.text(measure.value.index)}"
        lines += [*_drained(writer), f"{said:<39} {prices[measure.name]}" if measure.name in prices else said]
    for guard in program.guards:
        said = f"before any store: {writer.text(guard.condition.index)}, else {guard.otherwise}"
        lines += [*_drained(writer), said]
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


def _traffic(program: Program, number: int, kind: str) -> str:
    one = program.passes[number]
    warm: set[str] = set()
    back = number - 1
    while back >= 0 and program.passes[back].barrier == Rate.UNIT:
        warm |= set(program.passes[back].loads) | set(program.passes[back].stores)
        back -= 1
    cold = [name for name in one.loads if name not in warm]
    said = f"reads {_bytes(cold, kind)}" + (f" ({' '.join(cold)})" if cold else "")
    again = [name for name in one.loads if name in warm]
    said += f", from the cache {' '.join(again)}" if again else ""
    return said + (f"   writes {_bytes(one.stores, kind)} ({' '.join(one.stores)})" if one.stores else "")


def _reduction_text(program: Program, index: int, writer: Writer) -> str:
    node = program.graph.nodes[index]
    axis = f", axis {node.value}" if node.rate == Rate.UNIT and node.value else ""
    return f"{node.op}({writer.text(node.args[0].index)}) per {node.rate.word}{axis}"


def _lines(program: Program, one: Pass, writer: Writer) -> list[tuple[str, str]]:
    """The values of one pass that deserve a name: what is stored, and what is used more than once."""
    nodes, names = program.graph.nodes, writer.names
    stored = {program.stores[n].index: n for n in sorted(one.stores, key="param".__eq__)}  # param, if it is one of two
    uses: dict[int, int] = {}
    known = {i for i in one.slow if is_reduction(nodes[i])}
    for i in (*one.body, *one.slow, *one.reductions):
        for a in nodes[i].args if i not in known else ():
            uses[a.index] = uses.get(a.index, 0) + 1
    order = [
        i for i in sorted({*one.body, *one.slow}) if nodes[i].args and i not in names and not is_reduction(nodes[i])
    ]
    order = [i for i in order if i in stored or (uses.get(i, 0) > 1 and nodes[i].op != "wide" and _is_long(nodes[i]))]
    lines: list[tuple[str, str]] = []
    for old in _needed_after_their_store(program, one, names, order, stored):
        lines.append((writer.give_new(old, "v"), str(nodes[old].value)))
    for i in order:
        text = writer.text(i)
        name = writer.give(i, stored[i]) if i in stored else writer.give_new(i, LETTERS[nodes[i].rate])
        lines += [*writer.lines, (name, text)]
        writer.lines = []
    for name in one.stores:
        value = program.stores[name]
        if names.get(value.index) != name:
            text = writer.text(value.index)
            lines += [*writer.lines, (name, text)]
            writer.lines = []
    return lines


def _needed_after_their_store(
    program: Program, one: Pass, names: dict[int, str], order: list[int], stored: dict[int, str]
) -> list[int]:
    """The loads that a line reads below the one that gives their buffer its new value: they need a name of their own."""
    nodes, ordered = program.graph.nodes, set(order)
    rest = [n for n in one.stores if stored.get(program.stores[n].index) != n or program.stores[n].index not in ordered]
    sequence = [(stored.get(i, ""), i) for i in order]
    sequence += [(name, program.stores[name].index) for name in rest] + [("", i) for i in one.reductions]
    given: set[str] = set()
    found: set[int] = set()
    named = {*names, *ordered}
    for name, root in sequence:
        known = not is_reduction(nodes[root]) and (root in names or (name in rest and root in ordered))
        read = ancestors(() if known else nodes[root].args or [nodes[root]], lambda value: value.index in named)
        found |= {i for i in read.keys() - named if nodes[i].op == "load" and nodes[i].value in given}
        given.add(name)
    return sorted(found)


def _is_long(node: Expr) -> bool:
    return any(a.args for a in node.args) or len(node.args) > 1


def _difference(usual: Program, other: Program, kind: str, prices: Mapping[str, str]) -> str:
    """What changes, in one line if only reads and writes do, else the other program in full."""
    if [one.reductions != () for one in usual.passes] == [one.reductions != () for one in other.passes]:
        said = []
        for number, (a, b) in enumerate(zip(usual.passes, other.passes, strict=True), 1):
            for verb, before, after in (("reads", a.loads, b.loads), ("writes", a.stores, b.stores)):
                more, less = sorted(set(after) - set(before)), sorted(set(before) - set(after))
                said += [f"pass {number} also {verb} {_bytes(more, kind)} ({' '.join(more)})"] if more else []
                said += [f"pass {number} no longer {verb} {_bytes(less, kind)} ({' '.join(less)})"] if less else []
        same = set(_program(usual, kind))
        changed = [line for line in _program(other, kind, prices) if line.strip() and line not in same]
        changed = [line for line in changed if not line.startswith("pass ")]
        summary = ", ".join(said) or "the same buffers, other arithmetic"
        return f"{other.bytes_per_parameter(ITEMSIZES[kind])} bytes; {summary}" + "".join(
            "\n" + line for line in changed
        )
    return _headline(other, kind) + "".join("\n" + line for line in _program(other, kind, prices))
