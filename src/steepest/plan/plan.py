"""What a plan is: programs of passes over memory, and the rules that every legal program keeps (`verify`).

A `Plan` holds one `Program` per outcome of the chain's STEP conditions. A program is a list of `Pass`; a pass sweeps over
elements, and ends where a reduction must be complete before the next can start. The rate of that barrier says how far it
reaches: a UNIT barrier is two sweeps over one unit, a TENSOR barrier two sweeps over one tensor, and only a MODEL barrier
stops everything. So passes are grouped: `stages` are split at MODEL barriers, their segments at TENSOR barriers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from steepest.language.expression import Expr, Graph, Rate, ancestors, is_reduction
from steepest.language.operations import OPERATIONS
from steepest.language.trace import Guard, Measure, Trace

__all__ = ["ITEMSIZES", "HostCode", "Pass", "Plan", "Program", "Segment", "size_of", "verify"]

ITEMSIZES = {
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex32": 4, "complex64": 8, "complex128": 16,
}  # fmt: skip
"""Bytes of one element of a parameter, by its type."""


def size_of(buffer: str, itemsize: int) -> int:
    """Bytes of one element of a buffer, for parameters of so many: gradients have their type, and states 32 bits at least."""
    return itemsize if buffer in ("param", "grad") else max(itemsize, 4)


@dataclass(frozen=True, slots=True)
class Pass:
    """One sweep: load every buffer once, compute, reduce, store.

    ``body`` lists its element values in order; ``slow`` the TENSOR and UNIT values it needs, in order. ``barrier`` is the
    rate of what the next pass waits for (ELEMENT after the last).
    """

    loads: tuple[str, ...]
    stores: tuple[str, ...]
    body: tuple[int, ...]
    reductions: tuple[int, ...]
    slow: tuple[int, ...]
    barrier: Rate


@dataclass(frozen=True, slots=True)
class Segment:
    """Passes that run together over one piece of a tensor; ``by_unit`` if any of them knows a value per unit."""

    passes: tuple[int, ...]
    by_unit: bool


@dataclass(frozen=True, slots=True)
class HostCode:
    """Values that the host computes, as steps ``value[i] = function(*value[args])``, in order."""

    steps: tuple[tuple[int, Callable[..., float], tuple[int, ...]], ...]

    def run(self, values: list[float]) -> None:
        for index, function, args in self.steps:
            values[index] = function(*[values[a] for a in args])

    @classmethod
    def of(cls, graph: Graph, indices: list[int]) -> HostCode:
        nodes = [graph.nodes[i] for i in indices]
        return cls(tuple((n.index, OPERATIONS[n.op].host, tuple(a.index for a in n.args)) for n in nodes))


@dataclass(frozen=True, eq=False)
class Program:
    """The passes for one outcome of the STEP conditions.

    ``stored_at`` maps a buffer to the pass that stores it. Barriers up to the rate of ``reach`` end a stage: MODEL ones, and
    those of TENSOR and UNIT too where other processes hold the rest of a tensor, so that its sums can be joined in between.
    """

    graph: Graph
    stores: dict[str, Expr]
    host_stores: dict[str, Expr]
    measures: tuple[Measure, ...]
    guards: tuple[Guard, ...]
    passes: tuple[Pass, ...]
    stored_at: dict[str, int]
    reach: Rate = Rate.MODEL

    def split_stages_up_to(self, reach: Rate) -> Program:
        """The same passes, with a stage for every barrier up to that rate."""
        if reach not in self._by_reach:
            self._by_reach[reach] = replace(self, reach=reach)
        return self._by_reach[reach]

    @cached_property
    def _by_reach(self) -> dict[Rate, Program]:
        return {self.reach: self}

    @cached_property
    def texts(self) -> dict[Hashable, str]:
        """The code that engines have generated from this program, by the types that it is for."""
        return {}

    @cached_property
    def stages(self) -> tuple[tuple[Segment, ...], ...]:
        """Passes grouped by how far their barriers reach."""
        stages: list[list[Segment]] = [[]]
        group: list[int] = []
        for number, one in enumerate(self.passes):
            group.append(number)
            if one.barrier == Rate.UNIT and self.reach < Rate.UNIT:
                continue
            by_unit = any(self._knows_units(self.passes[i]) for i in group)
            stages[-1].append(Segment(tuple(group), by_unit))
            group = []
            if one.barrier <= self.reach:
                stages.append([])
        return tuple(tuple(stage) for stage in stages if stage)

    def _knows_units(self, one: Pass) -> bool:
        nodes = self.graph.nodes
        return any(nodes[i].rate == Rate.UNIT for i in (*one.slow, *one.reductions))

    @cached_property
    def buffers(self) -> tuple[str, ...]:
        """Every buffer that the program touches, in a fixed order."""
        touched = {name for one in self.passes for name in (*one.loads, *one.stores)}
        return tuple(sorted(touched, key=lambda name: (name not in ("param", "grad"), name)))

    @cached_property
    def moved(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Buffers read and written, over all passes; what a sweep over the same unit has read already is in the cache."""
        reads: list[str] = []
        writes: list[str] = []
        warm: set[str] = set()
        for one in self.passes:
            reads += sorted(set(one.loads) - warm)
            writes += one.stores
            warm = (warm | set(one.loads) | set(one.stores)) if one.barrier == Rate.UNIT else set()
        return tuple(reads), tuple(writes)

    @property
    def reads_and_writes(self) -> tuple[int, int]:
        """How many buffers are read and written, over all passes."""
        reads, writes = self.moved
        return len(reads), len(writes)

    @cached_property
    def size(self) -> int:
        """How much there is to compile: the values of all loops, and a share for each loop."""
        return sum(len(one.body) + len(one.slow) + 16 for one in self.passes)

    def bytes_per_parameter(self, itemsize: int = 4) -> int:
        """Bytes that must move between memory and cores for each parameter, which has ``itemsize`` bytes, as its gradient has.

        States have as many, but at least 4: of parameters in 16 bits they are float32.
        """
        return sum(size_of(name, itemsize) for names in self.moved for name in names)

    @cached_property
    def axes(self) -> frozenset[int]:
        """The dimensions that number units."""
        return frozenset(n.value for n in self.graph.nodes if is_reduction(n) and n.rate == Rate.UNIT)

    @cached_property
    def live_host(self) -> list[int]:
        """Every STEP and MODEL value that anything needs, in order."""
        return sorted(i for i, value in self.needed.items() if value.rate <= Rate.MODEL)

    @cached_property
    def needed(self) -> dict[int, Expr]:
        """Every value that a store, a measurement or a guard needs, by index."""
        measured, guarding = (m.value for m in self.measures), (g.condition for g in self.guards)
        return ancestors([*self.stores.values(), *self.host_stores.values(), *measured, *guarding])

    @cached_property
    def step_code(self) -> HostCode:
        nodes = self.graph.nodes
        return HostCode.of(self.graph, [i for i in self.live_host if nodes[i].rate == Rate.STEP and nodes[i].args])

    @cached_property
    def model_code(self) -> HostCode:
        """All MODEL values in order; a value whose reduction is not complete yet is computed again after a later stage."""
        nodes = self.graph.nodes
        wanted = [i for i in self.live_host if nodes[i].rate == Rate.MODEL and not is_reduction(nodes[i])]
        return HostCode.of(self.graph, wanted)

    @cached_property
    def inputs(self) -> tuple[tuple[int, str], ...]:
        nodes = self.graph.nodes
        return tuple((i, nodes[i].value) for i in self.live_host if nodes[i].op == "input")

    @cached_property
    def template(self) -> list[float]:
        """One slot per value, with the constants filled in."""
        return [n.value if n.op == "const" else 0.0 for n in self.graph.nodes]

    @cached_property
    def scalars(self) -> tuple[int, ...]:
        """The STEP and MODEL values that the loops use, in the order in which engines receive them."""
        nodes = self.graph.nodes
        used: set[int] = set()
        for one in self.passes:
            for i in (*one.body, *one.slow, *one.reductions):
                used |= {a.index for a in nodes[i].args}
            used |= {self.stores[name].index for name in one.stores}
        return tuple(sorted(i for i in used if nodes[i].rate <= Rate.MODEL and nodes[i].op != "const"))

    @cached_property
    def model_reductions(self) -> tuple[tuple[int, ...], ...]:
        """The MODEL reductions that each stage completes."""
        nodes = self.graph.nodes
        return tuple(tuple(i for i in found if nodes[i].rate == Rate.MODEL) for found in self.reductions)

    @cached_property
    def waits(self) -> bool:
        """Whether a value of the whole model, or a guard, decides when a stage may run."""
        return bool(self.guards) or any(self.model_reductions)

    @cached_property
    def reductions(self) -> tuple[tuple[int, ...], ...]:
        """All reductions that each stage completes."""
        return tuple(
            tuple(i for segment in stage for p in segment.passes for i in self.passes[p].reductions)
            for stage in self.stages
        )

    @cached_property
    def stage_stores(self) -> tuple[bool, ...]:
        """Whether each stage stores anything."""
        return tuple(any(self.passes[p].stores for s in stage for p in s.passes) for stage in self.stages)


@dataclass(frozen=True)
class Plan:
    """All programs of a chain. ``print(plan)`` explains them; `program` gives the one for an outcome of `conditions`.

    ``dtype`` is the type of the parameters that bytes are counted for.
    """

    trace: Trace
    conditions: tuple[Expr, ...]
    make: Callable[[Trace, tuple[bool, ...]], Program] = field(repr=False)
    programs: dict[tuple[bool, ...], Program] = field(default_factory=dict, repr=False)
    dtype: str = "float32"

    def program(self, outcome: tuple[bool, ...]) -> Program:
        """The program for one outcome of the conditions; planned when it is first asked for."""
        if outcome not in self.programs:
            self.programs[outcome] = self.make(self.trace, outcome)
        return self.programs[outcome]

    @cached_property
    def usual(self) -> tuple[bool, ...]:
        """The outcome of a step late in training on which nothing special is due."""
        inputs = dict.fromkeys((name for _, name in self.condition_inputs), 0.0)
        for symbol, (position, name) in self.trace.inputs.items():
            given = dict(self.trace.chain.links[position].values)[name]
            inputs[symbol] = float(given(0)) if callable(given) else float(given)
        inputs["step"] = inputs["steps"] = 1_000_003.0
        return self.outcome(inputs)

    @cached_property
    def size(self) -> int:
        """About the size of the largest program: of all values of the loops, or of a usual step, or one where all conditions
        hold, or none."""
        count = len(self.conditions)
        sizes = [self.program(outcome).size for outcome in {self.usual, (True,) * count, (False,) * count}]
        return max(*sizes, sum(node.rate > Rate.MODEL for node in self.trace.graph.nodes))

    def outcome(self, inputs: Mapping[str, float]) -> tuple[bool, ...]:
        """Which conditions hold on a step with these inputs, by name."""
        if not self.conditions:
            return ()
        values = self.condition_template.copy()
        for index, name in self.condition_inputs:
            values[index] = inputs[name]
        self.condition_code.run(values)
        return tuple(bool(values[c.index]) for c in self.conditions)

    @cached_property
    def condition_code(self) -> HostCode:
        needed = ancestors(self.conditions)
        return HostCode.of(self.trace.graph, [i for i in sorted(needed) if needed[i].args])

    @cached_property
    def condition_inputs(self) -> tuple[tuple[int, str], ...]:
        return tuple((n.index, n.value) for n in self.trace.graph.nodes if n.op == "input")

    @cached_property
    def condition_template(self) -> list[float]:
        return [n.value if n.op == "const" else 0.0 for n in self.trace.graph.nodes]

    def bytes_per_parameter(self, itemsize: int | None = None) -> int:
        """Bytes per parameter of the usual step, for parameters of the plan's type or of so many bytes; states as they are kept."""
        return self.program(self.usual).bytes_per_parameter(itemsize or ITEMSIZES[self.dtype])

    def __str__(self) -> str:
        from steepest.show.explain import explain

        return explain(self)


def verify(program: Program) -> None:
    """Raise AssertionError unless the program is legal: what every plan promises, stated once and run in the tests."""
    nodes = program.graph.nodes
    done: set[int] = set()
    stored: set[str] = set()
    guard_level = {g.condition.index for g in program.guards}
    for number, one in enumerate(program.passes):
        assert len(set(one.loads)) == len(one.loads), f"pass {number} loads a buffer twice"
        assert len(set(one.stores)) == len(one.stores), f"pass {number} stores a buffer twice"
        known: set[int] = set()
        for i in one.slow:
            arguments = () if is_reduction(nodes[i]) else nodes[i].args
            assert not is_reduction(nodes[i]) or i in done, f"pass {number} uses a reduction that is not complete"
            assert all(_slow_known(a, done, known) for a in arguments), f"pass {number}: {nodes[i]!r} is not known yet"
            known.add(i)
        for name in stored & set(one.loads):
            known.add(program.stores[name].index)
        for i in one.body:
            node = nodes[i]
            if node.op == "load":
                assert node.value in one.loads, f"pass {number} uses {node.value} without loading it"
                assert node.value not in stored, f"pass {number} needs {node.value} as it was, but it was overwritten"
            for a in node.args:
                reachable = a.index in known or a.rate <= Rate.MODEL or _slow_known(a, done, known)
                assert reachable, f"pass {number} uses {a!r} before it is known"
            known.add(i)
        for name in one.stores:
            assert name not in stored, f"{name} is stored twice"
            value = program.stores[name]
            assert value.rate < Rate.ELEMENT or value.index in known, f"pass {number} stores {name}, not yet known"
            if guard_level:
                assert all(r in done for r in _model_reductions_of(program)), (
                    f"{name} is stored before a guard is known"
                )
        stored |= set(one.stores)
        done |= set(one.reductions)
        rates = [nodes[i].rate for i in one.reductions]
        assert one.barrier == (min(rates) if rates else Rate.ELEMENT), f"pass {number} ends with the wrong barrier"
    assert stored == set(program.stores), "a store is missing"


def _slow_known(value: Expr, done: set[int], known: set[int]) -> bool:
    if value.op == "const" or value.rate == Rate.STEP:
        return True
    if is_reduction(value):
        return value.index in done
    return value.index in known or value.rate <= Rate.MODEL


def _model_reductions_of(program: Program) -> set[int]:
    return {i for i, value in ancestors(g.condition for g in program.guards).items() if is_reduction(value)}
