"""One step, whatever the framework: groups of tensors with their chains, sorted into jobs for the engines.

A front end gives tensors, chains and gradients; it never computes an update. Tensors are sorted into buckets, and buckets of one
program and element type are bound together, so that a step is one call per program however many groups there are. What has been
sorted stays as long as the same tensors have gradients: such a step looks at buckets, never at tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
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
from steepest.step.buckets import Bucket, Kind, Kinds, buckets_of, drop_states, renumber, start_states
from steepest.step.readings import Readings

__all__ = ["Inspector", "Plans", "Stepper", "Watch"]

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
        self._on_cpu = False
        self._warned: set[str] = set()
        self._buckets: list[Bucket] = []
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
        self._kinds: list[tuple[Kind, Kind | None]] = []
        if not renumber(self._buckets, dict(zip((t.index for t in self.tensors), self.own_plans, strict=True))):
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
        try:
            self._sort(tuple(sorted(absent)))
        except BaseException:
            self._withdraw()
            raise
        self.forget_layout()

    def write_back(self) -> None:
        """Give every tensor its history as it is now."""
        for bucket in self._buckets:
            for t in bucket.tensors:
                t.host = dict(bucket.host)
        for part in self.parts:
            part.write_back()

    def forget_layout(self) -> None:
        """Write histories back to the tensors; at the next step look at their memory again and sort them anew."""
        self.unsort()
        self._kinds = []
        self._gatherer: Callable[[Sequence[Any]], NDArray[np.int64] | None] | None = None
        for part in self.parts:
            part.forget_layout()

    def bind_params(self, addresses: NDArray[np.int64]) -> None:
        """Use the parameters' other memory of the same form; ``addresses`` tells by index where it begins."""
        for bound in self._bound.values():
            bound.bind_params(addresses)

    def histories(self) -> Iterator[tuple[list[Tensor], Mapping[str, float]]]:
        """Tensors of the last step, with their step count and host states."""
        return ((bucket.tensors, bucket.host) for bucket in self._buckets)

    def unsort(self) -> None:
        """Write histories back to the tensors and sort them anew at the next step; their memory has the same form."""
        self.write_back()
        self._buckets = []
        self._bound: dict[tuple[Any, ...], Bound] = {}
        self._absent: tuple[int, ...] | None = None
        self._fresh: list[tuple[Tensor, list[str]]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Without plans, kernels and addresses: a copy finds its own. Nobody watches a copy."""
        self.forget_layout()
        dropped = ("_plans", "_buckets", "_bound", "_gatherer", "_absent", "_fresh", "_kinds")
        kept = {name: value for name, value in vars(self).items() if name not in dropped}
        return kept | {"watch": None, "readings": Readings()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _buckets=[])
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
        return self._absent is not None and set(indices) <= set(self._absent)

    # ---- one step

    def needs_only_addresses(self) -> bool:
        """Whether steps can run from the addresses of the gradients alone."""
        if not self._kinds:
            self._all_kinds()
        return self._on_cpu

    def gather(self, grads: Sequence[Any]) -> NDArray[np.int64] | None:
        """Addresses of all gradients in one compiled call; None where they need Python's closer look."""
        if not self.needs_only_addresses():
            return None
        if self._gatherer is None:
            from steepest.engines.numba.engine import Gatherer

            self._gatherer = Gatherer(self.tensors)
        return self._gatherer(grads)

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
            if absent != self._absent:
                self._sort(absent)
            jobs = self._jobs(addresses)
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
        self._fresh = []
        for job, buckets in jobs:
            for row, bucket in enumerate(buckets):
                bucket.host["step"] += not bucket.kind.absent
                for name, value in job.program.host_stores.items():
                    bucket.host[name] = float(job.values[row][value.index])
        self.steps += 1
        if any(job.program.measures for job in ran):
            self.readings.take(self.steps)
        return True

    def _withdraw(self) -> None:
        """Take back the states that a step has started which then did not happen."""
        fresh = [(t, names) for t, names in self._fresh if names]
        if fresh:
            self.forget_layout()
            for t, names in fresh:
                drop_states(t, names)

    def _all_kinds(self) -> list[tuple[Kind, Kind | None]]:
        """Each tensor's kind, and its kind in a step without its gradient if it has rules that follow the weights."""
        if not self._kinds:
            kinds, found = Kinds(), list[tuple[Kind, Kind | None]]()
            for number, (group, plans) in enumerate(zip(self.groups, self._plans, strict=True)):
                for t, own in zip(group, plans, strict=True):
                    engine, chain, follower = self._engine_of(own, t), own.trace.chain, None
                    if chain.follows:
                        absent = plan(chain, absent=True, apart=own.trace.graph.apart)
                        follower = kinds.of(number, t, absent, engine, True)
                    found.append((kinds.of(number, t, own, engine, False), follower))
            self._kinds = found
            self._on_cpu = all(kind.engine.name == "cpu" for kind, _ in found)
        return self._kinds

    def _sort(self, absent: tuple[int, ...]) -> None:
        self.unsort()
        without = set(absent)
        rows: list[tuple[Kind, Tensor]] = []
        for t, (kind, follower) in zip(self.tensors, self._all_kinds(), strict=True):
            if t.index not in without:
                if not kind.plan.trace.starts.keys() <= t.buffers.keys() | t.host.keys() or not t.host:
                    started: list[str] = []
                    self._fresh.append((t, started))  # before memory is asked for, which may fail
                    start_states(t, kind.plan, started)
                rows.append((kind, t))
            elif follower is not None and t.host:
                rows.append((follower, t))
        self._buckets = buckets_of(rows)
        self._absent = absent

    def _engine_of(self, own: Plan, tensor: Tensor) -> Engine:
        return engine_for(own, tensor, self.engine, self.fallback, self.cpu, self._warned)

    def _jobs(self, addresses: NDArray[np.int64] | None) -> list[tuple[Job, list[Bucket]]]:
        grouped: dict[tuple[Any, ...], tuple[Program, list[tuple[Bucket, dict[str, float]]]]] = {}
        for bucket in self._buckets:
            inputs = bucket.inputs(self.steps)
            program, first = bucket.program(inputs), bucket.tensors[0]
            key = (id(program), id(bucket.kind.engine), first.dtypes, first.cuts)
            grouped.setdefault(key, (program, []))[1].append((bucket, inputs))
        jobs = []
        for key, (program, members) in grouped.items():
            buckets = [b for b, _ in members]
            rows = [row for row, b in enumerate(buckets) for _ in b.tensors]
            bound_key = (*key, *map(id, buckets))
            bound = self._bound.get(bound_key)
            if bound is None:
                # Without passes there is nothing to compile: rules that follow the weights are idle at most steps.
                engine = buckets[0].kind.engine if program.passes else self.fallback
                bound = engine.bind(program, [t for b in buckets for t in b.tensors], rows)
                self._bound[bound_key] = bound
            bound.bind_gradients(addresses)
            jobs.append((Job(program, bound, [i for _, i in members], rows), buckets))
        return jobs

    def measured_tensors(self) -> dict[str, NDArray[np.float64]]:
        """What the last step that measured has measured per tensor, in the order of the tensors; nan where one was not."""
        return self.readings.per_tensor(len(self.tensors))
