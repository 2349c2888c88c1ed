"""One step, whatever the framework: groups of tensors with their chains, sorted into jobs for the engines.

A front end gives tensors, chains and gradients; it never computes an update. Tensors are sorted into buckets, and buckets of one
program and element type are bound together, so that a step is one call per program however many groups there are. What has been
sorted stays as long as the same tensors have gradients: such a step looks at buckets, never at tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steepest.checks import unknown_name
from steepest.engines.arrays import ArrayEngine
from steepest.engines.choice import check_engine, engine_for
from steepest.engines.executor import Job, Share, Skipped, execute
from steepest.engines.numba.frame import source
from steepest.engines.tensors import Bound, Engine, Tensor
from steepest.language.chain import Chain
from steepest.language.trace import check_order
from steepest.plan.plan import Plan, Program
from steepest.plan.planner import plan, together
from steepest.step.buckets import Bucket, Kind, Kinds, buckets_of, drop_states, start_states
from steepest.step.readings import Readings

__all__ = ["Inspector", "Layout", "Plans", "Stepper", "Watch"]

Watch: TypeAlias = Callable[[Chain], Chain]
"""Puts measurements into a chain; whatever else the chain does stays as it is."""


class Inspector(Protocol):
    """Looks at the gradients of each step, as the front end has them; changes nothing."""

    def before(self, grads: Sequence[Any]) -> None:
        """Called before anything is computed."""

    def after(self, grads: Sequence[Any], stepper: Stepper) -> None:
        """Called when the step is done, with what has run it."""


class Plans(tuple[Plan, ...]):
    """The plans of an optimizer, one for each distinct chain and type among its parameters. ``print`` explains them."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    def source(self, dtype: str = "float32") -> str:
        """The generated code of the usual step of each plan."""
        texts = [source(p.program(p.usual), dtype, f"{p.trace.chain}") for p in self]
        return "\n\n".join(dict.fromkeys(texts))

    def bytes_per_parameter(self, itemsize: int | None = None) -> int:
        """Bytes of the usual step, for the parameters' own types or for so many bytes each; the largest of all plans."""
        return max(p.bytes_per_parameter(itemsize) for p in self)


_Joined: TypeAlias = tuple[Program, Bound, list[int], list[int]]
"""What a job is made of: program, what runs it, each tensor's row of numbers, and the number of each row's bucket."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How tensors are sorted. Replaced as a whole: by none if their memory or chains change, by one without buckets to sort again.

    Attributes
    ----------
    kinds : each tensor's kind, and its kind in a step without its gradient if it has rules that follow the weights.
    only_addresses : whether the addresses of the gradients are all that a step needs.
    absent : the tensors without a gradient for which the buckets were made; None without buckets.
    fresh : tensors with the names of their states that the coming step starts.
    bound : what engines have bound to buckets.
    joined : by the programs of the buckets, how the buckets are joined to jobs.
    """

    kinds: Sequence[tuple[Kind, Kind | None]]
    only_addresses: bool
    absent: tuple[int, ...] | None = None
    buckets: Sequence[Bucket] = ()
    fresh: list[tuple[Tensor, list[str]]] = field(default_factory=list)
    bound: dict[tuple[Any, ...], Bound] = field(default_factory=dict)
    joined: dict[tuple[int, ...], list[_Joined]] = field(default_factory=dict)


class Stepper:
    """Keeps tensors, their chains and histories; `step` runs one step on the gradients in their buffers.

    ``engine`` is ``"auto"`` or ``"cpu"`` (the cpu engine where a tensor's layout and the size of the step suit it) or
    ``"arrays"``; ``fallback`` is the
    array engine of the tensors' framework, ``cpu`` makes its cpu engine; ``share`` joins the sums of tensors that other
    processes have parts of; ``watch`` puts measurements into every chain.
    """

    def __init__(
        self,
        groups: Sequence[list[Tensor]],
        chains: Sequence[Chain],
        engine: str = "auto",
        fallback: Engine | None = None,
        share: Share | None = None,
        cpu: Callable[[], Engine] | None = None,
        watch: Watch | None = None,
    ) -> None:
        check_engine(engine)
        self.groups = [list(g) for g in groups]
        self.tensors = [t for group in groups for t in group]
        self.engine = engine
        self.fallback = fallback or ArrayEngine()
        self.share = share
        self.cpu = cpu
        self.watch = watch
        self.steps = 0
        self.readings = Readings()
        self.parts: list[Stepper] = []
        self.layout: Layout | None = None
        """None if nothing is known of the tensors' memory."""
        self._warned: set[str] = set()
        self.set_chains(chains)

    def set_chains(self, chains: Sequence[Chain]) -> None:
        """Take new numbers, or new chains, for all groups; nothing is planned again where the structure is known."""
        for chain in chains:
            check_order(chain)
        plans: list[list[Plan]] = []
        for chain, group in zip(chains, self.groups, strict=True):
            common: Plan | None = None
            watched = chain if self.watch is None else self.watch(chain)
            row = []
            for t in group:
                own = watched.for_parameter(t.name, t.shape)
                if own is watched:
                    common = common or plan(own)
                    row.append(common)
                else:
                    row.append(plan(own))
            plans.append(row)
        own_plans = iter(together([one for row in plans for one in row]))
        plans = [list(islice(own_plans, len(row))) for row in plans]
        self.chains, self._plans = list(chains), plans
        self.forget_layout()
        own_chains = [chain for chain, group in zip(chains, self.groups, strict=True) for _ in group]
        for part, chain in zip(self.parts, own_chains, strict=False):
            part.watch = self.watch
            part.set_chains([chain])

    def watched_by(self, watch: Watch | None) -> None:
        """Put other measurements, or none, into all chains."""
        self.watch, self.readings = watch, Readings()
        self.set_chains(self.chains)

    def split(self) -> list[Stepper]:
        """One stepper for each tensor, in order, for chains in which no tensor waits for another.

        Until `join`, only they may step; whatever this one is told of chains, histories and layouts it passes on to them.
        """
        self.forget_layout()
        rows = [(chain, t) for chain, group in zip(self.chains, self.groups, strict=True) for t in group]
        self.parts = [
            Stepper([[t]], [chain], self.engine, self.fallback, self.share, self.cpu, self.watch) for chain, t in rows
        ]
        for part in self.parts:
            part._warned = self._warned
        return self.parts

    def join(self) -> None:
        """Step all tensors together again."""
        self.write_back()
        self.parts = []

    def start(self, absent: Collection[int]) -> None:
        """Make the states of all tensors but these; nothing else changes, and no step is counted."""
        self._sort(tuple(sorted(absent)))
        self.forget_layout()

    def write_back(self) -> None:
        """Give every tensor its history as it is now."""
        for tensors, host in self.histories():
            for t in tensors:
                t.host = dict(host)
        for part in self.parts:
            part.write_back()

    def forget_layout(self) -> None:
        """Write histories back to the tensors; at the next step look at their memory again and sort them again."""
        self.write_back()
        self.layout = None
        for part in self.parts:
            part.forget_layout()

    def unsort(self) -> None:
        """Write histories back to the tensors and sort them again at the next step; their memory has the same form."""
        self.write_back()
        if self.layout is not None:
            self.layout = Layout(self.layout.kinds, self.layout.only_addresses)

    def bind_params(self, addresses: NDArray[np.int64]) -> None:
        """Use the parameters' other memory of the same form; ``addresses`` tells by index where it begins."""
        for bound in self.layout.bound.values() if self.layout else ():
            bound.bind_params(addresses)

    def histories(self) -> Iterator[tuple[list[Tensor], Mapping[str, float]]]:
        """Tensors of the last step, with their step count and host states."""
        return ((bucket.tensors, bucket.host) for bucket in (self.layout.buckets if self.layout else ()))

    def __getstate__(self) -> dict[str, Any]:
        """Without plans, kernels and addresses: a copy finds its own. Nobody watches a copy."""
        self.forget_layout()
        kept = {name: value for name, value in vars(self).items() if name != "_plans"}
        return kept | {"watch": None, "readings": Readings()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.set_chains(self.chains)

    @property
    def plans(self) -> Plans:
        """The distinct plans, in the order of the parameters."""
        distinct: dict[tuple[int, str, str], Plan] = {}
        for t, one in zip(self.tensors, self.own_plans, strict=True):
            distinct.setdefault((id(one.programs), str(one.trace.chain), t.dtype), replace(one, dtype=t.dtype))
        return Plans(distinct.values())

    @property
    def own_plans(self) -> list[Plan]:
        """Each parameter's plan, in the order of the parameters."""
        return [p for row in self._plans for p in row]

    def no_state(self, name: str) -> ValueError:
        """What to raise where no tensor holds a state of that name: it is of no chain, or has not been started."""
        known = sorted({n for p in self.own_plans for n, (start, _) in p.trace.starts.items() if not start.on_host})
        if not known:
            return ValueError(f"using: unknown state {name!r}. The chains of this optimizer have no states.")
        if name in known:
            return ValueError(f"using: {name!r} does not exist before the first step.")
        return ValueError(unknown_name("using", "state", name, known))

    @property
    def follows(self) -> bool:
        """Whether steps also concern tensors without a gradient, since some rules follow the weights."""
        return any(chain.follows for chain in self.chains)

    def leaves_out(self, indices: Collection[int]) -> bool:
        """Whether these tensors had no gradient at the last step, so that they hold their own history."""
        absent = None if self.layout is None else self.layout.absent
        return absent is not None and set(indices) <= set(absent)

    # ---- one step

    def needs_only_addresses(self) -> bool:
        """Whether steps can run from the addresses of the gradients alone."""
        return self._known_layout().only_addresses

    def step(
        self,
        grads: Sequence[NDArray[Any] | None],
        addresses: NDArray[np.int64] | None = None,
        absent: tuple[int, ...] = (),
    ) -> bool:
        """Run one step; False if a guard asked for it to be skipped.

        ``addresses`` and the indices of the tensors without a gradient, ``absent``, spare looking at the gradients.
        """
        try:
            if addresses is None:
                absent = tuple(t.index for t, g in zip(self.tensors, grads, strict=True) if g is None)
                for t, g in zip(self.tensors, grads, strict=True):
                    if g is not None:
                        t.buffers["grad"] = g
            layout = self.layout
            if layout is None or absent != layout.absent:
                layout = self._sort(absent)
            jobs = self._jobs(layout, addresses)
            ran = [job for job, _ in jobs]
            self.readings.ran(ran)
            execute(ran, self.share)
        except Skipped:
            self._withdraw()
            return False
        except BaseException:
            self._withdraw()
            raise
        finally:
            if addresses is None:
                for t in self.tensors:
                    t.buffers.pop("grad", None)
        layout.fresh.clear()
        measured = False
        for job, numbers in jobs:
            measured = measured or bool(job.program.measures)
            for values, number in zip(job.values, numbers, strict=True):
                bucket = layout.buckets[number]
                bucket.host["step"] += not bucket.kind.absent
                for name, value in job.program.host_stores.items():
                    bucket.host[name] = float(values[value.index])
        self.steps += 1
        if measured:
            self.readings.take(self.steps)
        return True

    def _withdraw(self) -> None:
        """Take back the states that a step has started which then did not happen."""
        fresh = [(t, names) for t, names in self.layout.fresh if names] if self.layout else []
        if fresh:
            self.forget_layout()
            for t, names in fresh:
                drop_states(t, names)

    def _known_layout(self) -> Layout:
        """The layout, with the kinds of all tensors."""
        if self.layout is None:
            kinds, found = Kinds(), list[tuple[Kind, Kind | None]]()
            for number, (group, plans) in enumerate(zip(self.groups, self._plans, strict=True)):
                for t, own in zip(group, plans, strict=True):
                    engine, chain, follower = self._engine_of(own, t), own.trace.chain, None
                    if chain.follows:
                        absent = plan(chain, absent=True, apart=own.trace.graph.apart)
                        follower = kinds.of(number, t, absent, engine, True)
                    found.append((kinds.of(number, t, own, engine, False), follower))
            self.layout = Layout(found, all(kind.engine.addresses_suffice for kind, _ in found))
        return self.layout

    def _sort(self, absent: tuple[int, ...]) -> Layout:
        """Sort the tensors into buckets, and start the states that they don't have yet."""
        self.unsort()
        known, without = self._known_layout(), set(absent)
        rows: list[tuple[Kind, Tensor]] = []
        try:
            for t, (kind, follower) in zip(self.tensors, known.kinds, strict=True):
                if t.index not in without:
                    if not kind.plan.trace.starts.keys() <= t.buffers.keys() | t.host.keys() or not t.host:
                        started: list[str] = []
                        known.fresh.append((t, started))  # before memory is asked for, which may fail
                        start_states(t, kind.plan, started)
                    rows.append((kind, t))
                elif follower is not None and t.host:
                    rows.append((follower, t))
        except BaseException:
            self._withdraw()
            raise
        self.layout = replace(known, absent=absent, buckets=buckets_of(rows))
        return self.layout

    def _engine_of(self, own: Plan, tensor: Tensor) -> Engine:
        return engine_for(own, tensor, self.engine, self.fallback, self.cpu, self._warned)

    def _jobs(self, layout: Layout, addresses: NDArray[np.int64] | None) -> list[tuple[Job, list[int]]]:
        """The jobs of this step with their numbers, each with its buckets."""
        inputs = [bucket.inputs(self.steps) for bucket in layout.buckets]
        programs = [b.kind.program or b.program(i) for b, i in zip(layout.buckets, inputs, strict=True)]
        key = tuple(map(id, programs))
        joined = layout.joined.get(key)
        if joined is None:
            joined = layout.joined[key] = self._join(layout, programs)
        jobs = []
        for program, bound, rows, numbers in joined:
            bound.bind_gradients(addresses)
            jobs.append((Job(program, bound, [inputs[number] for number in numbers], rows), numbers))
        return jobs

    def _join(self, layout: Layout, programs: Sequence[Program]) -> list[_Joined]:
        """Join buckets of one program, engine and type."""
        grouped: dict[tuple[Any, ...], list[int]] = {}
        for number, (bucket, program) in enumerate(zip(layout.buckets, programs, strict=True)):
            first = bucket.tensors[0]
            grouped.setdefault((id(program), id(bucket.kind.engine), first.dtypes, first.cuts), []).append(number)
        joined = []
        for key, numbers in grouped.items():
            program, buckets = programs[numbers[0]], [layout.buckets[number] for number in numbers]
            rows = [row for row, b in enumerate(buckets) for _ in b.tensors]
            bound = layout.bound.get((*key, *numbers))
            if bound is None:
                # Without passes there is nothing to compile: rules that follow the weights are idle at most steps.
                engine = buckets[0].kind.engine if program.passes else self.fallback
                bound = layout.bound[*key, *numbers] = engine.bind(
                    program, [t for b in buckets for t in b.tensors], rows
                )
            joined.append((program, bound, rows, numbers))
        return joined

    def measured_tensors(self) -> dict[str, NDArray[np.float64]]:
        """What the last step that measured has measured per tensor, in the order of the tensors; nan where one was not."""
        return self.readings.per_tensor(len(self.tensors))
