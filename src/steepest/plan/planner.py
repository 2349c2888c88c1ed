"""The planner: from a trace to the fewest passes, and in them the fewest bytes.

Every value gets a level, one more after each reduction: that is the pass in which it can first be known. Values are taken
backwards from stores and measurements; a store happens as early as no later pass needs the old value; a reduction with
slack waits for a pass that loads its input anyway. ``x / slow`` becomes ``x * (1 / slow)``, so that the division leaves the
loop; there is no other algebra (never ``x * 0``, ``x + 0`` or a reassociation).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from steepest.language.chain import Chain
from steepest.language.expression import Expr, Graph, Rate, ancestors, is_reduction
from steepest.language.trace import Guard, Measure, Trace, check_order, structure_of, trace
from steepest.plan.plan import Pass, Plan, Program

__all__ = ["plan", "together"]

_PLANS: OrderedDict[object, Plan] = OrderedDict()
_KEPT = 256


def plan(chain: Chain, absent: bool = False, apart: bool = False) -> Plan:
    """The plan of a chain. Chains of equal structure share its programs: no number, and no schedule, ever plans again.

    With ``absent`` it is the plan for a parameter without a gradient (`trace`). With ``apart`` every link has its own sums over the
    model, also where those of two links are the same (`together`).

    >>> import steepest
    >>> plan(steepest.adam(1e-3)).bytes_per_parameter()
    28
    """
    key = structure_of(chain), absent, apart
    known = _PLANS.get(key)
    if known is None:
        traced = trace(chain, absent, apart)
        known = _PLANS[key] = Plan(traced, conditions_of(traced), make_program)
        while len(_PLANS) > _KEPT:
            _PLANS.popitem(last=False)
    _PLANS.move_to_end(key)
    return Plan(replace(known.trace, chain=chain), known.conditions, known.make, known.programs)


def together(plans: Sequence[Plan]) -> list[Plan]:
    """The plans of chains that step together: each sum over the model is one value for all chains that contain its link.

    One value may serve two links of a chain, a clip and a measurement of what it clips, only where every chain with one of them
    has the other, and on the same value. Else each link gets sums of its own.
    """
    links: dict[Hashable, frozenset[Hashable]] = {}
    graphs = {id(one.programs): one.trace.graph for one in plans}
    for graph in graphs.values():
        for keys in graph.keys.values():
            if any(links.setdefault(key, keys) != keys for key in keys):
                return [plan(one.trace.chain, apart=True) for one in plans]
    return list(plans)


def checked_plan(chain: Chain) -> Plan:
    """`plan`, after a chain whose order makes no sense has been refused."""
    check_order(chain)
    return plan(chain)


def conditions_of(traced: Trace) -> tuple[Expr, ...]:
    """The STEP conditions on which what is read and written depends: each outcome is a program of its own."""
    found: dict[int, Expr] = {}
    for node in traced.graph.nodes:
        if node.op == "where" and node.args[0].rate == Rate.STEP < node.rate:
            found.setdefault(node.args[0].index, node.args[0])
    for measure in traced.measures:
        if measure.condition.op != "const":
            found.setdefault(measure.condition.index, measure.condition)
    return tuple(found.values())


def make_program(traced: Trace, outcome: tuple[bool, ...]) -> Program:
    """Specialise a trace for one outcome of its conditions and schedule it."""
    chosen = {c.index: o for c, o in zip(conditions_of(traced), outcome, strict=True)}
    graph, new = _rewrite(traced, chosen)
    stores = {name: new[e.index] for name, e in traced.stores.items()}
    stores = {name: e for name, e in stores.items() if not (e.op == "load" and e.value == name)}
    measures = tuple(
        Measure(m.name, new[m.value.index], new[m.condition.index])
        for m in traced.measures
        if chosen.get(m.condition.index, True)
    )
    guards = tuple(Guard(new[g.condition.index], g.otherwise, g.message) for g in traced.guards)
    draft = Program(
        graph,
        stores,
        {name: new[e.index] for name, e in traced.host_stores.items()},
        measures,
        guards,
        (),
        {},
    )
    best = _schedule(draft, frozenset())
    late: frozenset[int] = frozenset()
    reductions = [i for one in best.passes for i in one.reductions]
    # Those that are only measured go together: each alone would leave the others' barrier where a unit's would do.
    early = {i for one in best.passes[:-1] for i in one.reductions}
    slack = _with_slack(draft, late)
    for some in [early - _waited_for(draft), *({i} for i in reductions)]:
        if some <= late or not some <= slack:
            continue
        other = _schedule(draft, late | some)
        if _cost(other) < _cost(best):
            best, late = other, late | some
            slack = _with_slack(draft, late)
    return best


def _with_slack(draft: Program, late: frozenset[int]) -> set[int]:
    """The reductions that can wait one pass longer without adding a pass: none of the longest chain of those that wait for
    each other."""
    nodes = draft.graph.nodes
    level = _levels(draft, late)
    after = dict.fromkeys(level, 0)
    for value in [*draft.stores.values(), *(g.condition for g in draft.guards)]:
        after[value.index] = 1
    for i in reversed(level):
        for a in nodes[i].args:
            after[a.index] = max(after[a.index], after[i] + is_reduction(nodes[i]) + (i in late))
    count = max((level[i] + after[i] for i in level), default=0)
    return {i for i in level if is_reduction(nodes[i]) and level[i] + after[i] < count}


def _levels(draft: Program, late: frozenset[int]) -> dict[int, int]:
    """Every value that is needed, in order, with the number of passes that must be complete before it is known."""
    level: dict[int, int] = {}
    for i, node in sorted(draft.needed.items()):
        first = max((level[a.index] for a in node.args), default=0)
        level[i] = first + is_reduction(node) + (i in late)
    return level


def _waited_for(draft: Program) -> set[int]:
    """What is needed for a store or a guard, and not only for a measurement."""
    stored = [*draft.stores.values(), *draft.host_stores.values()]
    return {*ancestors([*stored, *(g.condition for g in draft.guards)])}


def _cost(program: Program) -> tuple[int, int]:
    return len(program.passes), sum(program.reads_and_writes)


def _rewrite(traced: Trace, chosen: dict[int, bool]) -> tuple[Graph, list[Expr]]:
    """One walk along the list: decided conditions disappear, slow divisors become factors."""
    graph = Graph()
    new: list[Expr] = []
    for node in traced.graph.nodes:
        args = [new[a.index] for a in node.args]
        if node.op == "const":
            made = graph.const(node.value)
        elif node.op == "input":
            made = graph.input(node.value)
        elif node.op == "load":
            made = graph.load(node.value)
        elif is_reduction(node):
            made = graph.reduce(node.op, args[0], node.rate, node.value, traced.graph.keys.get(node.index))
        elif node.op == "where" and node.args[0].index in chosen:
            made = args[1] if chosen[node.args[0].index] else args[2]
        elif node.op == "div" and args[1].rate < args[0].rate:
            made = args[0] * (1.0 / args[1])
        else:
            made = graph.add(node.op, *args)
        new.append(made)
    return graph, new


def _schedule(draft: Program, late: frozenset[int]) -> Program:
    """Give every reduction and store its pass; ``late`` reductions wait one pass longer than they must."""
    graph, stores = draft.graph, draft.stores
    nodes = graph.nodes
    level = _levels(draft, late)
    guarded = max((level[g.condition.index] for g in draft.guards), default=0)
    at = {name: max(level[e.index], guarded) for name, e in stores.items()}
    reductions = [nodes[i] for i in level if is_reduction(nodes[i])]
    count = max([*(level[r.index] for r in reductions), *(p + 1 for p in at.values())], default=0)
    while True:
        passes, moved = [], False
        for p in range(count):
            ending = [r for r in reductions if level[r.index] == p + 1]
            storing = [name for name in stores if at[name] == p]
            targets = [r.args[0] for r in ending] + [stores[name] for name in storing]
            one, needs_old = _pass(graph, targets, stores, at, p)
            for name in needs_old:
                if at.get(name, p) < p:
                    at[name], moved = p, True
            rates = [r.rate for r in ending]
            barrier = min(rates) if rates else Rate.ELEMENT
            passes.append(
                replace(one, stores=tuple(sorted(storing)), reductions=tuple(r.index for r in ending), barrier=barrier)
            )
        if not moved:
            kept = [one for one in passes if one.stores or one.reductions]
            stored_at = {name: number for number, one in enumerate(kept) for name in one.stores}
            return replace(draft, passes=tuple(kept), stored_at=stored_at)


def _pass(
    graph: Graph, targets: list[Expr], stores: dict[str, Expr], at: dict[str, int], p: int
) -> tuple[Pass, set[str]]:
    """What one pass must load and compute for its targets: back to the buffers, or to a stored value of an earlier pass."""
    stored = {e.index: name for name, e in stores.items() if at[name] < p}
    loads: set[str] = set()
    old: set[str] = set()
    body: set[int] = set()
    slow: set[int] = set()
    todo = list(targets)
    while todo:
        node = todo.pop()
        if node.index in body or node.index in slow or node.rate <= Rate.MODEL:
            continue
        if node.rate < Rate.ELEMENT:
            slow.add(node.index)
            todo += () if is_reduction(node) else node.args
            continue
        if node.index in stored:
            loads.add(stored[node.index])
            continue
        body.add(node.index)
        todo += node.args
        if node.op == "load":
            loads.add(node.value)
            old.add(node.value)
    return Pass(tuple(sorted(loads)), (), tuple(sorted(body)), (), tuple(sorted(slow)), Rate.ELEMENT), old
