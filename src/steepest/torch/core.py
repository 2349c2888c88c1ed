"""Everything of a torch optimizer that changes while it runs, in one object.

An optimizer has one `Core` and never gets another. Wrappers that copy an optimizer's attributes or delegate to it (Lightning's
``LightningOptimizer``, ``copy.copy``) therefore share the steps, the states and what is known of the parameters. A core refers to
no optimizer, so deleting the optimizer frees parameters and states at once, without the garbage collector.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from steepest.engines.choice import check_engine
from steepest.engines.tensors import Engine
from steepest.interrupts import Turn, between
from steepest.language.chain import Chain, check_patterns
from steepest.step.recipes import LiveGroups, Recipe
from steepest.step.stepper import Inspector, Stepper, Watch
from steepest.torch import entries, state as states
from steepest.torch.first_step import only_makes_states
from steepest.torch.foreach import ForeachEngine
from steepest.torch.gradients import AddressReader, check_gradients
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.groups import recipes_of
from steepest.torch.sharding import pointers_of, share
from steepest.torch.sparse import check_rows, sparse_rows
from steepest.torch.sparse_step import SparseStep
from steepest.torch.unchanged import Memory, Parameters, extent
from steepest.torch.views import (
    ParamView,
    Swapped,
    buffer_of,
    check_added,
    check_apart,
    check_complex,
    held_in,
    is_simple,
)

if TYPE_CHECKING:
    from steepest.torch.release import Released

__all__ = ["Core"]

_FOREACH = ForeachEngine()
_PROCESS = os.getpid()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last closer look at gradients has found out. It holds as long as the stepper's kinds are the same.

    Attributes
    ----------
    kinds : those of the stepper's layout.
    regular : takes the addresses of regular gradients, if steps can run from addresses.
    of_other_type : the parameters whose gradients had another type than they.
    sparse : steps the parameters with sparse gradients apart.
    """

    kinds: object
    regular: AddressReader | None = None
    of_other_type: Sequence[int] = ()
    sparse: SparseStep | None = None


class Core:
    """The stepper of a torch optimizer, and everything that was looked at to build it.

    Parameters
    ----------
    what : str
        Name of the optimizer's class, for messages.
    engine : str
        ``"auto"``, ``"cpu"`` or ``"arrays"``.
    densifies : bool
        Whether a sparse gradient is made dense if torch's own rule keeps sparse states that amount to the same.
    """

    def __init__(self, what: str, engine: str, densifies: bool) -> None:
        check_engine(engine)
        self.what, self.engine, self.densifies = what, engine, densifies
        self.live = LiveGroups(what)
        self.outer: Core | None = None  # of a Lookahead that shares the groups
        self.recipe: Recipe | None = None
        self.given: list[Recipe] = []
        self.state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        self.stepper: Stepper | None = None
        self.held: list[ParamView] = []
        self.params = Parameters()
        self.added_sizes: list[int] = []
        """Of the parameters of groups that were added since the stepper was made."""
        self.adding = False
        self.known: Seen | None = None
        self.shown = False
        self.numbers_shown = False
        """Whether somebody may hold tensors of step counts, in a state dict; they then follow each step, as the states do."""
        self.steps_before = 0
        self.swapped = ""
        self.released: Released | None = None
        self.watch: Watch | None = None
        self.inspector: Inspector | None = None
        self.seconds = 0.0
        self.turn = Turn()

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self.steps_before if self.stepper is None else self.stepper.steps

    @property
    def groups(self) -> list[dict[str, Any]]:
        """torch's parameter groups."""
        return self.live.rows

    @groups.setter
    def groups(self, groups: list[dict[str, Any]]) -> None:
        self.live.rows = groups

    # ---- groups and parameters as they are now

    def show_numbers(self) -> list[dict[str, Any]]:
        """The groups, with the numbers that schedules give for the next step."""
        if self.outer is not None:
            return self.outer.show_numbers()
        if self.adding:  # torch only looks whose parameters these are
            return self.groups
        self.live.take_schedules(self.steps)
        self.live.schedules.sync(self.groups, self.steps)
        return self.groups

    @torch.no_grad()
    def build(self, added: bool = False) -> Stepper:
        """Make a stepper for the groups as they are now; parameters that are known keep their states.

        If groups were added, a name pattern of a chain that matches no parameter is refused.
        """
        live, recipes = self.live, recipes_of(self.live)
        if self.stepper is not None:
            self.show()  # before the layout is given up
            self.stepper.forget_layout()
        groups = held_in(self.what, live.rows, self.held)
        held = [one for row in groups for one in row]
        chains = live.chains(recipes)
        if added:
            check_patterns(self.what, chains, [[one.tensor.name for one in row] for row in groups])
        for index, one in enumerate(held):
            one.tensor.index = index
        joined = share if any(one.tensor.cuts for one in held) else None
        tensors = [[one.tensor for one in row] for row in groups]
        stepper = Stepper(tensors, chains, self.engine, _FOREACH, joined, _cpu_engine, self.watch)
        stepper.steps = self.steps
        for one, own in zip(held, stepper.own_plans, strict=True):
            check_complex(self.what, one, own)
        self.stepper, self.held = stepper, held
        live.settle(recipes)
        self.params = Parameters([list(group["params"]) for group in live.rows])
        self.added_sizes = []
        if live.take_schedules(self.steps):  # the last thing, so that groups which are refused keep theirs
            stepper.set_chains(live.chains())
        live.look()
        self.shown = True
        if self.released is not None:
            self.released.attach(stepper, held)
        return stepper

    def look_at_added(self, chain: Chain) -> None:
        """Refuse the group that was added last if it does not fit. The next step makes a stepper for all groups.

        So adding many groups one by one takes time in proportion to their number. A group with schedules, patterns, complex or
        sharded parameters, or one whose steps are taken inside the backward pass, concerns others: the stepper is made now.
        """
        group = self.groups[-1]
        params: list[torch.Tensor] = group["params"]
        if not is_simple(group) or self.released is not None or any(link.selectors for link in chain):
            self.build(added=True)
            return
        check_added(self.what, self.groups)
        every = [p for one in self.groups for p in one["params"]]
        self.added_sizes += map(extent, params)
        sizes = np.concatenate([self.params.sizes, np.array(self.added_sizes, dtype=np.int64)])
        memory = Memory(pointers_of(every, False), sizes) if len(sizes) == len(every) else Memory.of(every)
        if memory.overlaps():
            self.build(added=True)  # names the two

    def ready(self, groups: list[dict[str, Any]]) -> Stepper:
        """The stepper for these groups, their parameters and states as they are now."""
        self.live.rows = groups
        if self.live.schedules:
            self.live.schedules.sync(groups, self.steps, strict=True)
        stepper = self.stepper
        if stepper is None or not self.params.are_those_of(groups):
            stepper = self.build()
        if self.shown:
            self._take_over(stepper)
        if not self.params.lie_as_before():
            self._see_params(stepper)
        self.live.rechain(stepper.steps, stepper.set_chains)
        return stepper

    def seen(self, stepper: Stepper) -> Seen | None:
        """What is known of gradients, if it still holds."""
        layout = stepper.layout
        if self.known is None or layout is None or self.known.kinds is not layout.kinds:
            self.known = None
        return self.known

    def _see_params(self, stepper: Stepper) -> None:
        """Look at the parameters' memory again, after they have been given other: ``p.data = …``, ``model.to(…)``."""
        if not stepper.parts and self.params.have_moved():
            for held in self.held:
                held.tensor.buffers["param"] = buffer_of(held.param)
            stepper.bind_params(np.array(self.params.pointers, dtype=np.int64))
            seen = self.seen(stepper)
            if seen is not None and seen.regular is not None:
                seen.regular.moved()
        else:
            stepper.forget_layout()
            for held in self.held:
                held.see_param(self.what)
            check_apart(self.what, self.held)
            self.params.look()

    def _take_over(self, stepper: Stepper) -> None:
        """Use whatever has been changed in ``state`` since it was shown."""
        rows = zip(self.held, stepper.own_plans, strict=True)
        changed = [(h, own) for h, own in rows if entries.differs(h, self.state.get(h.param) or {})]
        if changed:
            stepper.forget_layout()
        for held, own in changed:
            entries.take(f"{self.what}.state", held, self.state.get(held.param) or {}, own)
        self.shown = False

    # ---- a step

    def step(self, groups: list[dict[str, Any]]) -> None:
        """Update all parameters that have a gradient: all of them, counted, or none."""
        with self.turn.step(self.what):
            self._step(groups)

    def _step(self, groups: list[dict[str, Any]]) -> None:
        began = perf_counter()
        stepper = self.ready(groups)
        live = self.live
        if live.scheduled:
            live.schedules.warn(groups)
        params = self.params.all
        grads = [p.grad for p in params]
        if self.inspector is not None:
            self.inspector.before(grads)
        seen = self.seen(stepper)
        regular = None if seen is None else seen.regular
        addresses = None if regular is None else regular(grads)
        if regular is not None and addresses is not None:
            happened = stepper.step((), addresses, regular.absent)
        else:
            happened = self._step_with_sparse(stepper, grads) or self._step_with_checks(stepper, grads)
            regular = None
        if happened:
            if (regular is None or regular.absent) and not stepper.follows:
                params = [p for p, g in zip(params, grads, strict=True) if g is not None]
            increment_version(params)
            if self.numbers_shown:
                entries.refresh(self.held, stepper)
        if live.scheduled:
            live.schedules.sync(groups, stepper.steps)
        if self.inspector is not None:
            self.inspector.after(grads, stepper)
        self.seconds += perf_counter() - began

    @torch.no_grad()
    def makes_states(self, groups: list[dict[str, Any]]) -> bool:
        """Make the states, and do nothing else, in a first step that is only meant for that."""
        with self.turn.step(self.what) if self.released is None else self.turn.wait():
            stepper = self.ready(groups)
            if not only_makes_states(stepper, groups):
                return False
            stepper.start({i for i, p in enumerate(self.params.all) if p.grad is None})
            self.shown = False
        return True

    @torch.no_grad()
    def _step_with_sparse(self, stepper: Stepper, grads: Sequence[torch.Tensor | None]) -> bool:
        """A step in which some gradients are sparse and all others regular; False if it needs a closer look."""
        indices = [i for i, g in enumerate(grads) if g is not None and g.layout is torch.sparse_coo and g.ndim > 0]
        seen = self.seen(stepper)
        if seen is None or seen.regular is None or not indices:
            return False
        if seen.sparse is None or seen.sparse.indices != indices:
            seen = self.known = replace(seen, sparse=SparseStep(stepper, self.held, indices, self.densifies))
        apart, regular = seen.sparse, seen.regular
        assert apart is not None and regular is not None
        return apart.possible and apart.step(f"{self.what}.step", grads, regular)

    @torch.no_grad()
    def _step_with_checks(self, stepper: Stepper, grads: Sequence[torch.Tensor | None]) -> bool:
        """A step on gradients that are not all as at the last one."""
        what, seen = f"{self.what}.step", self.seen(stepper)
        buffers, sparse = check_gradients(what, self.held, grads, self.params.memory, self.densifies, stepper.own_plans)
        other = [i for i, (b, one) in enumerate(zip(buffers, self.held, strict=True)) if not one.has_type_of(b)]
        if seen is None or other != seen.of_other_type:
            stepper.forget_layout()
        happened = False
        try:
            for index in sparse:
                check_rows(what, self.held[index], stepper.own_plans[index])
            if sparse:
                stepper.forget_layout()
                with sparse_rows(stepper, self.held, buffers, sparse):
                    happened = stepper.step(buffers)
            else:
                happened = stepper.step(buffers)
        finally:
            if sparse:
                stepper.forget_layout()
            if not happened:
                for one in self.held:
                    one.prune()
        regular = None if seen is None or not sparse else seen.regular
        if not happened or other or not stepper.needs_only_addresses():
            regular = None
        elif regular is None:  # of sparse gradients the others may be regular at the next step
            regular = AddressReader(self.params, () if sparse else tuple(i for i, g in enumerate(grads) if g is None))
        layout, apart = stepper.layout, None if seen is None else seen.sparse
        self.known = None if layout is None else Seen(layout.kinds, regular, other, apart)
        return happened

    # ---- what is shown, swapped, loaded

    def show(self) -> defaultdict[torch.Tensor, Any]:
        """Bring each parameter's entry in ``state`` up to date."""
        with self.turn.wait():
            if self.stepper is not None and not self.shown:
                self.stepper.write_back()
                for held in self.held:
                    entries.show(held, self.state)
                self.shown = True
                self.numbers_shown = self.numbers_shown or bool(self.state)
        return self.state

    @contextmanager
    def showing_only(self, groups: Sequence[dict[str, Any]]) -> Iterator[None]:
        """Leave the entries of parameters that no group lists out of ``state`` for the block."""
        shown: defaultdict[Any, Any] = self.show()
        listed = {id(p) for group in groups for p in group["params"]}
        kept = {key: entry for key, entry in shown.items() if not isinstance(key, torch.Tensor) or id(key) in listed}
        self.state = defaultdict(dict, kept)
        try:
            yield
        finally:
            self.state = shown

    def refuse_while_swapped(self, what: str) -> None:
        """Raise while `using` has put a state in place of the weights."""
        if self.swapped:
            raise RuntimeError(f"{what}: the weights are swapped for {self.swapped!r}. Leave the with block first.")

    @contextmanager
    def using(self, groups: list[dict[str, Any]], name: str) -> Iterator[None]:
        """Put a state in place of the weights for the block."""
        swapped: list[Swapped] = []
        with between(lambda: self._swap(groups, name, swapped), lambda: self._restore(swapped)):
            yield

    @outside_of_graphs
    @torch.no_grad()
    def _swap(self, groups: list[dict[str, Any]], name: str, swapped: list[Swapped]) -> None:
        with self.turn.wait():
            if self.swapped:
                raise RuntimeError(f"using: the weights are swapped for {self.swapped!r} already.")
            stepper = self.ready(groups)
            chosen = [h for h in self.held if name in h.tensor.buffers and name not in ("param", "grad")]
            if not chosen:
                raise stepper.no_state(name)
            swapped.append(Swapped(chosen, name))
            self.swapped = name

    @outside_of_graphs
    @torch.no_grad()
    def _restore(self, swapped: list[Swapped]) -> None:
        with self.turn.wait():
            if swapped:
                swapped.pop().undo()
                self.swapped = ""

    @torch.no_grad()
    def load(
        self, groups: list[dict[str, Any]], given: Mapping[str, Any], strict: bool, schedules: object
    ) -> states.Incompatible:
        """Continue from a state dict; nothing is changed if anything does not fit."""
        stepper = self.ready(groups)
        live = self.live
        own = [live.schedules.whole(number, group) for number, group in enumerate(groups)]
        loaded = states.load(self.what, given, own, live.recipes, self.held, strict, schedules)
        loaded.loading.warn()
        stepper.forget_layout()
        for number, values in enumerate(loaded.values):
            live.schedules.forget(number, values)
        renamed = loaded.apply(groups, self.held)
        stepper.steps = loaded.steps
        self.show_numbers()
        self.state.clear()
        self.shown = False
        if renamed:
            self.build()
        if self.released is not None:
            self.released.begin()
        return loaded.incompatible


def _cpu_engine() -> Engine:
    from steepest.torch.threads import engine

    return engine(_PROCESS)
